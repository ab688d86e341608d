"""Hydra overrides -> one dataclass instance, with errors that name the nearest match.

A field declared by `group("method", "diffusion_policy")` is a Hydra config group: `method=NAME` chooses the schema,
`method.horizon=32` sets an entry of it. Everything else is an ordinary `key=value`.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from diffbot.errors import ConfigError, unknown


@dataclass(frozen=True)
class Choice:
    """The chosen option of a config group: its name and its filled-in dataclass."""

    name: str
    config: Any


def group(name: str, default: str) -> Any:
    """A dataclass field that is a Hydra config group with this default option."""
    return field(default=default, metadata={"group": name})


def parse(schema: type, overrides: Sequence[str]) -> Any:
    """Build an instance of the dataclass `schema` from Hydra overrides.

    Raises ConfigError for a malformed override, an unknown key or option (with the nearest match), a value of the wrong
    type, or a mandatory value that is missing.
    """
    from hydra import compose, initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    groups = {f.name: f for f in dataclasses.fields(schema) if "group" in f.metadata}
    options = {name: _options(f.metadata["group"]) for name, f in groups.items()}
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"cannot read the arguments: {error}. They have the form key=value.") from error
    chosen = {name: str(f.default) for name, f in groups.items()}
    for override in parsed:
        if override.key_or_group == "experiment" and override.value() is not None:
            # Hydra would pass over an unknown one, since the group is optional.
            names = experiments()
            if str(override.value()) not in names:
                raise unknown("experiment", str(override.value()), names)
        if override.key_or_group in groups:
            value = str(override.value())
            names = options[override.key_or_group]
            if value not in names:
                raise unknown(override.key_or_group, value, names, f"diffbot list {override.key_or_group}s")
            chosen[override.key_or_group] = value

    root = _root(schema, groups)
    _check_keys(root, parsed, groups, chosen)
    ConfigStore.instance().store(name="diffbot_root", node=root)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("diffbot.cli.conf", version_base="1.3"):
            composed = compose("diffbot_root", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_message(error)) from error
    missing = sorted(str(key) for key in OmegaConf.missing_keys(composed))
    if missing:
        raise ConfigError(f"missing: {', '.join(f'{key}=...' for key in missing)}")
    try:
        values = OmegaConf.to_object(composed)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(_message(error)) from error
    filled = {f.name: getattr(values, f.name) for f in dataclasses.fields(schema) if f.init}
    for name in groups:
        filled[name] = Choice(chosen[name], filled[name])
    return schema(**filled)


def experiments() -> list[str]:
    """Names that `experiment=` takes: the files of diffbot/cli/conf/experiment."""
    folder = importlib.resources.files("diffbot.cli.conf") / "experiment"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def _options(name: str) -> list[str]:
    """Names of a config group, after its registry has filled Hydra's ConfigStore."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    if name == "method":
        from diffbot.methods.registry import methods

        methods()
    repository = ConfigStore.instance().repo.get(name, {})
    for entry in repository.values():
        _writable(entry.node, OmegaConf)
    return sorted(key.removesuffix(".yaml") for key in repository)


def _writable(node: Any, omega: Any) -> None:
    """Frozen dataclasses arrive read-only; the composed copy must take overrides before it is frozen again."""
    if omega.is_config(node):
        omega.set_readonly(node, None)
        if omega.is_dict(node):
            if _is_open(node):
                omega.set_struct(node, False)
            for key in node:
                if not omega.is_missing(node, key):
                    _writable(node._get_node(key), omega)


def _is_open(node: Any) -> bool:
    """Whether a node is a dict[str, Any] field, which takes any key."""
    from omegaconf import DictConfig

    return isinstance(node, DictConfig) and node._metadata.object_type is dict


def _root(schema: type, groups: dict[str, Any]) -> Any:
    """The schema as Hydra's primary config: group fields become entries of the defaults list."""
    from omegaconf import OmegaConf

    hints = get_type_hints(schema)
    columns: list[Any] = []
    for f in dataclasses.fields(schema):
        if f.name in groups:
            columns.append((f.name, Any, field(default_factory=dict)))
        elif f.default_factory is not dataclasses.MISSING:
            columns.append((f.name, hints[f.name], field(default_factory=f.default_factory)))
        else:
            default = "???" if f.default is dataclasses.MISSING else f.default
            columns.append((f.name, hints[f.name], field(default=default)))
    defaults: list[Any] = ["_self_", *({f.metadata["group"]: f.default} for f in groups.values())]
    defaults.append({"optional experiment": None})
    columns.append(("defaults", list[Any], field(default_factory=lambda: list(defaults))))
    node = OmegaConf.structured(dataclasses.make_dataclass("Root", columns))
    _writable(node, OmegaConf)
    return node


def _check_keys(root: Any, parsed: Sequence[Any], groups: dict[str, Any], chosen: dict[str, str]) -> None:
    """Refuse an unknown key by name before Hydra does in its own words."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    for override in parsed:
        key = override.key_or_group
        if key in groups or key == "experiment" or override.is_add():
            continue
        node, path = root, ""
        for part in key.split("."):
            if path and _is_open(node):
                break  # a dict[str, Any] of options: who reads it checks its keys
            # `in` is false for a mandatory entry that has no value yet, so look at the keys.
            valid = [str(k) for k in node if k != "defaults"] if OmegaConf.is_dict(node) else []
            if part not in valid:
                raise unknown(f"setting of {path}" if path else "setting", part, valid, "diffbot VERB --help")
            path = f"{path}.{part}" if path else part
            if path in groups:
                option = f"{chosen[path]}.yaml"
                node = ConfigStore.instance().repo[groups[path].metadata["group"]][option].node
            else:
                node = node._get_node(part)


def _message(error: Exception) -> str:
    """Hydra names the key, its cause names the value: one line with both."""
    lines = [str(error).splitlines()[0]]
    if error.__cause__ is not None and str(error.__cause__):
        lines.append(str(error.__cause__).splitlines()[0])
    return ": ".join(dict.fromkeys(lines))
