"""What a format is, and how the formats are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.contract import Action, Contract, Field
from diffbot.errors import ConfigError, DataError, unknown

RESERVED = ("action", "reward", "terminated", "truncated", "sim_state", "time")


@dataclass(frozen=True)
class ImportOptions:
    """What a foreign file does not say and a user must.

    rate: Hz, 0 when the file knows it. task: name for the contract. meaning, space: of the action. keys: observation keys to take,
    all when empty. bindings: path of a YAML for formats that need a mapping (bags).
    """

    rate: float = 0.0
    task: str = ""
    meaning: str = "absolute"
    space: str = "other"
    keys: tuple[str, ...] = ()
    bindings: str = ""


@dataclass
class Source:
    """An opened foreign dataset.

    episodes: yields (arrays [T, ...] by key, meta by name) one episode at a time. count: number of episodes.
    provenance: what the file says about its origin.
    """

    contract: Contract
    count: int
    episodes: Callable[[], Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]]
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """One format: how to recognise, read and write it. `write` is None for formats that are only read."""

    name: str
    description: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, ImportOptions], Source]
    write: Callable[[Any, Path], None] | None = None


@cache
def formats() -> dict[str, Format]:
    """Every format by name: each module of this package that defines FORMAT or FORMATS."""
    found: dict[str, Format] = {}
    package = importlib.import_module("diffbot.data.formats")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for entry in getattr(module, "FORMATS", [getattr(module, "FORMAT", None)]):
            if entry is not None:
                found[entry.name] = entry
    return dict(sorted(found.items()))


def format_by_name(name: str) -> Format:
    """The format, or a ConfigError with the nearest name."""
    if name not in formats():
        raise unknown("format", name, formats(), "diffbot data import --help")
    return formats()[name]


def detect_format(path: Path) -> Format:
    """The one format that recognises `path`. Raises DataError when none or several do."""
    if not path.exists():
        raise DataError(f"no file or folder at {path}")
    matches = [entry for entry in formats().values() if entry.detect(path)]
    if len(matches) != 1:
        names = ", ".join(entry.name for entry in matches) or "none"
        raise DataError(
            f"cannot tell the format of {path} (it looks like: {names}). Say it: format=NAME, one of {', '.join(formats())}"
        )
    return matches[0]


def guess_contract(
    arrays: Mapping[str, np.ndarray],
    rate: float,
    options: ImportOptions,
    names: Mapping[str, Any] | None = None,
) -> Contract:
    """A contract from the arrays [T, ...] of one episode, for files that carry none.

    Shapes, dtypes and kinds are read from the data; units and ranges stay open. uint8 arrays with 1, 3 or 4 channels last are
    images. `names` gives labels by key where the file has them.
    """
    rate = options.rate or rate
    if rate <= 0:
        raise ConfigError("this file does not say its rate. Give it in Hz: rate=20")
    labels = names or {}
    observations = {}
    for key, value in arrays.items():
        if key in RESERVED:
            continue
        image = value.dtype == np.uint8 and value.ndim == 4 and value.shape[-1] in (1, 3, 4)
        observations[key] = Field(
            value.shape[1:],
            str(value.dtype),
            names=tuple(labels.get(key, ())),
            kind="image" if image else "state",
        )
    if not observations:
        raise DataError("the file has no observations, only " + ", ".join(arrays))
    action = arrays["action"]
    return Contract(
        observations,
        Action(
            action.shape[1:],
            str(action.dtype),
            names=tuple(labels.get("action", ())),
            meaning=options.meaning,
            space=options.space,
        ),
        rate,
        options.task,
    )


def vectors(value: np.ndarray) -> np.ndarray:
    """Scalars a step become vectors of one entry, as contracts want them: [T] -> [T, 1]."""
    return value[:, None] if value.ndim == 1 else value


def choose(arrays: dict[str, np.ndarray], keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Only the wanted observation keys (all when empty) and the reserved arrays."""
    for key in keys:
        if key not in arrays:
            raise unknown("observation key", key, [k for k in arrays if k not in RESERVED])
    return {k: v for k, v in arrays.items() if not keys or k in keys or k in RESERVED}
