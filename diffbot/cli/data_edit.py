"""`diffbot data delete | trim | relabel`: change a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from omegaconf import MISSING

from diffbot.cli.verb import Verb
from diffbot.data import edit
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError


@dataclass(frozen=True)
class DeleteConfig:
    """Settings of `diffbot data delete`."""

    path: str = MISSING  # the dataset
    episodes: list[int] = MISSING  # numbers of the episodes to delete, [3,7]
    out: str = ""  # where the new dataset goes; empty: in place


@dataclass(frozen=True)
class TrimConfig:
    """Settings of `diffbot data trim`."""

    path: str = MISSING  # the dataset
    bounds: dict[int, list[int]] = field(default_factory=dict)  # episode -> [start, stop], {0:[5,90]}
    out: str = ""  # where the new dataset goes; empty: in place


@dataclass(frozen=True)
class RelabelConfig:
    """Settings of `diffbot data relabel`."""

    path: str = MISSING  # the dataset
    name: str = MISSING  # the per-episode value to set, as "success"
    values: list[str] = MISSING  # one for each episode, or one for all: true/false, numbers or words
    episodes: list[int] = field(default_factory=list)  # only these; empty: all
    reason: str = MISSING  # kept in the provenance


def run_delete(config: DeleteConfig) -> int:
    """Delete whole episodes."""
    source = EpisodeStore.open(config.path)
    return _apply(source, config.out, lambda path: edit.delete(source, path, config.episodes))


def run_trim(config: TrimConfig) -> int:
    """Cut episodes shorter."""
    source = EpisodeStore.open(config.path)
    for episode, bound in config.bounds.items():
        if len(bound) != 2:
            raise ConfigError(f"bounds of episode {episode} must be [start, stop], got {list(bound)}")
    bounds = {int(e): (b[0], b[1]) for e, b in config.bounds.items()}
    return _apply(source, config.out, lambda path: edit.trim(source, path, bounds))


def run_relabel(config: RelabelConfig) -> int:
    """Set a per-episode value."""
    store = EpisodeStore.open(config.path, "a")
    new = _parse(config.values)
    chosen = config.episodes or list(range(len(store)))
    if len(new) not in (1, len(chosen)):
        raise ConfigError(f"{len(chosen)} episodes need 1 or {len(chosen)} values, got {len(new)}")
    if len(chosen) == len(store):
        values = np.empty(len(store), new.dtype)
    elif config.name in store.meta_names:
        values = store.meta(config.name)
    else:
        raise ConfigError(f"'{config.name}' is new, so it needs values for all {len(store)} episodes")
    if min(chosen, default=0) < 0 or max(chosen, default=-1) >= len(store):
        raise ConfigError(f"episodes {chosen} are not within 0..{len(store) - 1}")
    values[chosen] = new
    edit.relabel(store, config.name, values, config.reason)
    print(f"{config.path}: set {config.name} of {len(chosen)} episodes")
    return 0


def _apply(source: EpisodeStore, out: str, make: Callable[[Path], EpisodeStore]) -> int:
    result = make(Path(out)) if out else edit.replace(source, make)
    print(
        f"{out or source.path}: {len(result)} episodes, {result.steps} steps (before: {len(source)}, {source.steps})"
    )
    return 0


def _parse(words: list[str]) -> np.ndarray:
    """Booleans, integers, floats or words, whichever is the first that fits them all."""
    lowered = [str(w).lower() for w in words]
    if set(lowered) <= {"true", "false"}:
        return np.array([w == "true" for w in lowered])
    for kind in (np.int64, np.float64):
        try:
            return np.array([kind(w) for w in lowered])
        except ValueError:
            continue
    return np.array([str(w) for w in words], dtype=object)


DELETE = Verb(
    "remove whole episodes",
    DeleteConfig,
    run_delete,
    ("diffbot data delete path=lift.zarr episodes=[3,7] out=clean.zarr",),
)
TRIM = Verb(
    "cut the beginning or the end of episodes",
    TrimConfig,
    run_trim,
    ("diffbot data trim path=lift.zarr bounds={0:[5,90]}",),
)
RELABEL = Verb(
    "set a per-episode value, with the reason",
    RelabelConfig,
    run_relabel,
    (
        "diffbot data relabel path=lift.zarr name=success values=[false] episodes=[4] reason='cube was held askew'",
    ),
)
