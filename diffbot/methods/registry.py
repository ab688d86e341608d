"""The methods by name: a decorator registers them, walking the package finds them, Hydra gets their settings."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore

from diffbot.errors import ConfigError, unknown

ROLES = ("policy", "planner", "synthesizer", "multi_agent", "baseline", "role")
SUBPACKAGES = ("policies", "planners", "synthesizers", "multi_agent", "roles", "baselines")

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class MethodEntry:
    """One registered method."""

    name: str  # what `method=` takes
    role: str  # one of ROLES
    system: str  # its id in the table of systems, "P3"
    paper: str  # authors, title or venue, year
    cls: Any
    config: type  # the frozen dataclass of its settings
    about: str  # first line of its docstring


_ENTRIES: dict[str, MethodEntry] = {}


def register(
    *, name: str, role: str, system: str, paper: str, config: type | None = None
) -> Callable[[T], T]:
    """Class decorator: make a method known by `name` and its settings known to Hydra's group "method".

    config: frozen dataclass of the settings; by default the class attribute `Config`.
    Raises ValueError for a name that another class has, an unknown role, or settings that are not a frozen dataclass.
    """

    def decorate(cls: T) -> T:
        schema = config or getattr(cls, "Config", None)
        if role not in ROLES:
            raise ValueError(f"role '{role}' of method '{name}' is not one of {', '.join(ROLES)}")
        if schema is None or not dataclasses.is_dataclass(schema):
            raise ValueError(f"method '{name}' needs a dataclass `Config`")
        if not schema.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise ValueError(f"the Config of method '{name}' must be frozen")
        known = _ENTRIES.get(name)
        if known is not None and (known.cls.__module__, known.cls.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(
                f"method name '{name}' is taken by {known.cls.__module__}.{known.cls.__qualname__}"
            )
        about = (cls.__doc__ or "").strip().split("\n")[0]
        _ENTRIES[name] = MethodEntry(name, role, system, paper, cls, schema, about)
        ConfigStore.instance().store(group="method", name=name, node=schema)
        return cls

    return decorate


@cache
def _discover() -> None:
    """Import every module of the method packages once, so that their decorators run."""
    for package in SUBPACKAGES:
        root = importlib.import_module(f"diffbot.methods.{package}")
        for info in pkgutil.walk_packages(root.__path__, prefix=f"{root.__name__}."):
            importlib.import_module(info.name)


def methods() -> dict[str, MethodEntry]:
    """All methods, by name in alphabetical order."""
    _discover()
    return dict(sorted(_ENTRIES.items()))


def method_by_name(name: str) -> MethodEntry:
    """The entry of one method. Raises ConfigError with the nearest name."""
    entries = methods()
    if name not in entries:
        raise unknown("method", name, entries, "diffbot list methods")
    return entries[name]


def build_config(name: str, values: dict[str, Any]) -> Any:
    """The settings dataclass of a method from plain values; ConfigError names an unknown or ill-typed entry."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = method_by_name(name).config
    valid = [f.name for f in dataclasses.fields(schema)]
    for key in values:
        if key not in valid:
            raise unknown(f"setting of method '{name}'", key, valid, f"diffbot train method={name} --help")
    node = OmegaConf.structured(schema)
    _writable(node)
    try:
        return OmegaConf.to_object(OmegaConf.merge(node, values))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(f"settings of method '{name}': {str(error).splitlines()[0]}") from error


def _writable(node: Any) -> None:
    """Frozen dataclasses become read-only nodes; merging needs a writable copy."""
    from omegaconf import OmegaConf

    OmegaConf.set_readonly(node, None)
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if OmegaConf.is_dict(child):
            _writable(child)
