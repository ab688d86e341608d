"""Changes to a dataset: each writes a new store (or only a per-episode array) and records what was done."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from diffbot.data import layout
from diffbot.data.store import EpisodeStore
from diffbot.data.writer import writer_lock
from diffbot.errors import DataError

Episode = tuple[dict[str, np.ndarray], dict[str, Any]]  # per-step arrays, per-episode values


def rewrite(
    source: EpisodeStore,
    path: str | Path,
    episodes: Iterable[int],
    step: Mapping[str, Any],
    change: Callable[[int, dict[str, np.ndarray], dict[str, Any]], Episode] | None = None,
) -> EpisodeStore:
    """Copy `episodes` of `source` to a new store, each through `change(index, arrays, meta)`.

    `step` describes what was done and is added to the provenance. The new store appears whole or not at all.
    """
    provenance = {**source.provenance, "steps": [*_steps(source), _dated(step)]}
    with new_store(path, source, provenance) as store, store.writer() as writer:
        for index in episodes:
            episode = source.episode(int(index)), source.episode_meta(int(index))
            writer.append(*(change(int(index), *episode) if change else episode))
    return EpisodeStore.open(path, "a")


def delete(source: EpisodeStore, path: str | Path, episodes: Sequence[int]) -> EpisodeStore:
    """A new store at `path` without these episodes."""
    chosen = _numbers(source, episodes)
    keep = np.setdiff1d(np.arange(len(source)), chosen)
    return rewrite(source, path, keep.tolist(), {"delete": chosen.tolist(), "of": str(source.path.name)})


def select(source: EpisodeStore, path: str | Path, episodes: Sequence[int]) -> EpisodeStore:
    """A new store at `path` with these episodes only, in this order."""
    chosen = _numbers(source, episodes)
    return rewrite(source, path, chosen.tolist(), {"select": chosen.tolist(), "of": str(source.path.name)})


def trim(source: EpisodeStore, path: str | Path, bounds: Mapping[int, tuple[int, int]]) -> EpisodeStore:
    """A new store in which episode e keeps its steps start..stop-1 for bounds[e] = (start, stop); others stay whole.

    A cut end is no longer terminal: `terminated` moves with its own step.
    """
    lengths = source.episode_lengths
    for e, (start, stop) in bounds.items():
        _numbers(source, [e])
        if not 0 <= start < stop <= lengths[e]:
            raise DataError(f"cannot trim episode {e} to steps {start}..{stop}: it has {lengths[e]} steps")

    def change(index: int, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Episode:
        start, stop = bounds.get(index, (0, int(lengths[index])))
        return {k: v[start:stop] for k, v in arrays.items()}, meta

    record = {"trim": {str(e): list(b) for e, b in bounds.items()}, "of": str(source.path.name)}
    return rewrite(source, path, range(len(source)), record, change)


def split(
    source: EpisodeStore, train: str | Path, validation: str | Path, fraction: float, seed: int
) -> tuple[EpisodeStore, EpisodeStore]:
    """Two new stores: whole episodes, `fraction` of them (rounded, at least one each) for validation."""
    first, second = split_episodes(len(source), fraction, seed)
    return select(source, train, first.tolist()), select(source, validation, second.tolist())


def split_episodes(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation episodes, each in ascending order; the same for the same count, fraction and seed."""
    if not 0 < fraction < 1 or count < 2:
        raise DataError(
            f"cannot split {count} episodes with fraction {fraction}; needs 2 or more and a value in (0, 1)"
        )
    size = min(count - 1, max(1, round(count * fraction)))
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[size:]), np.sort(order[:size])


def relabel(store: EpisodeStore, name: str, values: np.ndarray, reason: str) -> None:
    """Set the per-episode array `name` [episodes, ...] in place, new or not, and record it with `reason`.

    Replacing an array of the same kind is one atomic step for up to 4,096 episodes.
    """
    values = np.asarray(values)
    if store.mode != "a":
        raise DataError(f"{store.path} is open for reading. Open it with mode 'a'")
    if name == layout.ENDS or not name.isidentifier():
        raise DataError(f"'{name}' cannot be the name of a label")
    with writer_lock(store.path):
        store.refresh()
        if values.shape[:1] != (len(store),):
            raise DataError(
                f"{len(store)} episodes need {len(store)} values of '{name}', got shape {values.shape}"
            )
        group = layout.subgroup(store.root, layout.META)
        if name not in group:
            layout.create_meta(group, name, values.shape[1:], values.dtype)
            layout.array(group, name).resize(values.shape)
        node = layout.array(group, name)
        text = values.dtype.kind in "OUT"
        if node.shape[1:] != values.shape[1:] or not (text or np.can_cast(values.dtype, node.dtype, "safe")):
            raise DataError(
                f"'{name}' is {node.dtype} {node.shape[1:]}, the new values are {values.dtype} {values.shape[1:]}"
            )
        with zarr.config.set({"array.write_empty_chunks": True}):
            node[: len(store)] = values.astype(object) if text else values
        record = _dated({"relabel": name, "reason": reason})
        store.root.attrs["provenance"] = {**store.provenance, "steps": [*_steps(store), record]}


def replace(store: EpisodeStore, make: Callable[[Path], EpisodeStore]) -> EpisodeStore:
    """Put the store that `make(path)` writes in the place of `store`, which is removed afterwards.

    A kill between the two renames leaves the old data beside it as `.NAME.old`.
    """
    path = store.path
    with writer_lock(path):
        scratch, old = (
            path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}"),
            path.with_name(f".{path.name}.old"),
        )
        if old.exists():
            raise DataError(f"{old} is left of an interrupted change. Move it back or delete it first")
        make(scratch)
        os.rename(path, old)
        os.rename(scratch, path)
        shutil.rmtree(old)
    return EpisodeStore.open(path, "a")


@contextlib.contextmanager
def new_store(
    path: str | Path, like: EpisodeStore, provenance: Mapping[str, Any], *, independent: bool | None = None
) -> Iterator[EpisodeStore]:
    """An empty store with the contract of `like`, moved to `path` when the block ends without an error.

    independent: whether its rows are transitions without neighbours; None: as those of `like`.
    """
    path = Path(path)
    if path.exists():
        raise DataError(f"{path} exists already. Choose another path")
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.writing")
    try:
        independent = like.independent if independent is None else independent
        yield EpisodeStore.create(
            scratch, like.contract, provenance, image_codec=like.image_codec, independent=independent
        )
        os.rename(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.with_name(f".{scratch.name}.lock").unlink(missing_ok=True)


def _numbers(store: EpisodeStore, episodes: Sequence[int]) -> np.ndarray:
    chosen = np.asarray(episodes, np.int64).reshape(-1)
    wrong = chosen[(chosen < 0) | (chosen >= len(store))]
    if len(wrong) or len(np.unique(chosen)) != len(chosen):
        raise DataError(
            f"episodes {wrong.tolist() or chosen.tolist()} must be distinct and within 0..{len(store) - 1}"
        )
    return chosen


def _steps(store: EpisodeStore) -> list[Any]:
    steps = store.provenance.get("steps", [])
    return list(steps) if isinstance(steps, list) else [steps]


def _dated(step: Mapping[str, Any]) -> dict[str, Any]:
    return {**step, "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
