"""What a killed writer leaves behind: told from committed episodes, and cut off."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from diffbot.data import layout
from diffbot.errors import DataError


class TornTailWarning(UserWarning):
    """Opening a store for appending cut off an episode that was never committed."""


@dataclass(frozen=True)
class TailReport:
    """What lies behind the last committed episode. False when there is nothing.

    rows: for each per-step key, the steps beyond the last committed one. meta: the same in episodes.
    partial_files: temporary files of interrupted writes (found only when repairing). repaired: whether it was cut off.
    """

    rows: tuple[tuple[str, int], ...] = ()
    meta: tuple[tuple[str, int], ...] = ()
    partial_files: int = 0
    repaired: bool = False

    def __bool__(self) -> bool:
        return bool(self.rows or self.meta or self.partial_files)

    def __str__(self) -> str:
        parts = [f"{n} steps of '{key}'" for key, n in self.rows]
        parts += [f"{n} entries of meta '{name}'" for name, n in self.meta]
        if self.partial_files:
            parts.append(f"{self.partial_files} partial files")
        return ", ".join(parts) or "nothing"


def committed_ends(root: zarr.Group) -> np.ndarray:
    """int64 [episodes]: the ends that were committed. An entry that does not increase was never committed."""
    ends = np.asarray(layout.array(root, f"{layout.META}/{layout.ENDS}")[:])
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise DataError(f"meta/{layout.ENDS} must be one row of integers, got {ends.dtype} {ends.shape}")
    ends = ends.astype(np.int64)
    falling = np.flatnonzero(np.diff(ends, prepend=0) <= 0)
    if len(falling) == 0:
        return ends
    first = int(falling[0])
    if np.any(ends[first:] != 0):
        raise DataError(
            f"meta/{layout.ENDS} is corrupt: entry {first} is {ends[first]}, not above "
            f"{ends[first - 1] if first else 0}. Keep the file and run: diffbot data check"
        )
    return ends[:first]


def inspect_tail(root: zarr.Group, ends: np.ndarray) -> TailReport:
    """Compare every array with the committed ends. Raises DataError when committed rows are missing."""
    steps, episodes = (int(ends[-1]) if len(ends) else 0), len(ends)
    rows, meta = [], []
    for key, node in layout.subgroup(root, layout.DATA).arrays():
        if node.shape[0] < steps:
            raise DataError(
                f"data/{key} has {node.shape[0]} steps, but {steps} are committed: the dataset is damaged"
            )
        if node.shape[0] > steps:
            rows.append((key, node.shape[0] - steps))
    for name, node in layout.subgroup(root, layout.META).arrays():
        if node.shape[0] < episodes:
            raise DataError(
                f"meta/{name} has {node.shape[0]} entries for {episodes} episodes: the dataset is damaged"
            )
        if node.shape[0] > episodes:
            meta.append((name, node.shape[0] - episodes))
    return TailReport(tuple(sorted(rows)), tuple(sorted(meta)))


def repair_tail(root: zarr.Group, path: Path) -> TailReport:
    """Cut every array to the committed episodes and remove partial files. Needs the writer lock."""
    ends = committed_ends(root)
    found = inspect_tail(root, ends)
    partial = [file for group in (layout.DATA, layout.META) for file in (path / group).rglob("*.partial")]
    for file in partial:
        file.unlink(missing_ok=True)
    cut(root, ends)
    report = TailReport(found.rows, found.meta, len(partial), repaired=True)
    if report:
        warnings.warn(
            f"{path}: a writer was interrupted; removed its uncommitted episode ({report}). "
            f"All {len(ends)} committed episodes are intact.",
            TornTailWarning,
            stacklevel=3,
        )
    return report


def cut(root: zarr.Group, ends: np.ndarray) -> None:
    """Shorten every array to the committed ends."""
    steps, episodes = (int(ends[-1]) if len(ends) else 0), len(ends)
    for group, length in ((layout.DATA, steps), (layout.META, episodes)):
        for _, node in layout.subgroup(root, group).arrays():
            if node.shape[0] > length:
                node.resize((length, *node.shape[1:]))
