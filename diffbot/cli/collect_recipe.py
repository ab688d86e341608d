"""Recipes: the files that say how a dataset is made. `diffbot collect recipe=NAME` runs one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from diffbot.errors import ConfigError, unknown

if TYPE_CHECKING:
    from diffbot.cli.collect_config import CollectConfig

# A recipe decides what is in the dataset; these settings say how much of it to make, and where.
FREE = ("recipe", "fraction", "out", "workers", "resume")


def folders() -> tuple[Path, ...]:
    """Where recipes lie: ./datasets/recipes, and the same folder of this checkout."""
    return Path("datasets") / "recipes", Path(__file__).resolve().parents[2] / "datasets" / "recipes"


def recipe_names() -> list[str]:
    """Every name that `recipe=` takes."""
    return sorted({file.stem for folder in folders() for file in folder.glob("*.yaml")})


def find(name: str) -> Path:
    """The file of a recipe: a name, or a path that ends in .yaml. Raises ConfigError."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"no recipe at {name}. Recipes by name: {', '.join(recipe_names())}")
        return Path(name)
    for folder in folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise unknown("recipe", name, recipe_names())


def read(path: Path) -> dict[str, Any]:
    """Settings of one recipe. Raises ConfigError when the file is not a mapping of settings."""
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold settings of `diffbot collect`, one `key: value` a line")
    return settings


def with_recipe(config: CollectConfig) -> CollectConfig:
    """The settings of `config.recipe`, with the size and the place that the command asks for.

    Raises ConfigError for an unknown recipe or setting, and when the command changes what the recipe decides.
    """
    path = find(config.recipe)
    settings = read(path)
    fields = {f.name: f for f in dataclasses.fields(config)}
    for name in settings:
        if name not in fields or name == "recipe":
            raise unknown(f"setting in {path}", name, [n for n in fields if n != "recipe"])
    fresh = type(config)()
    for name in fields:
        if name not in FREE and getattr(config, name) != getattr(fresh, name):
            raise ConfigError(
                f"recipe '{config.recipe}' decides {name}. Beside recipe= give only {', '.join(FREE[1:])}, "
                f"or copy {path} and give its path: recipe=mine.yaml"
            )
    given = {name: getattr(config, name) for name in FREE if getattr(config, name) != getattr(fresh, name)}
    made = dataclasses.replace(config, **{**settings, **given, "recipe": path.stem})
    if (
        given.get("fraction", made.fraction) != settings.get("fraction", 0.0)
        and "out" not in given
        and made.out
    ):
        made = dataclasses.replace(made, out=_sized(made.out, made.fraction))
    return made


def _sized(out: str, fraction: float) -> str:
    """The default place of another size: hopper-medium.zarr becomes hopper-medium_0.5.zarr."""
    path = Path(out)
    return str(path.with_name(f"{path.stem}_{fraction:g}{path.suffix}"))
