"""Per-step arrays in RAM, with the padding of each episode laid out around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError

BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class PaddedArray:
    """Rows of the chosen episodes; around each `before` copies of its first and `after` of its last row (or zeros).

    data: [rows, ...]. offset: int64 [episodes of the store]; step s of episode e is row s + offset[e].
    """

    data: Tensor
    offset: Tensor
    before: int
    after: int

    @classmethod
    def load(
        cls,
        store: EpisodeStore,
        key: str,
        episodes: np.ndarray,
        before: int,
        after: int,
        *,
        zero_end: bool = False,
    ) -> PaddedArray:
        """Read one key of a store, some megabytes at a time."""
        node = store.array(key)
        starts, ends = store.episode_starts, store.episode_ends
        data, offset = _allocate(node.shape[1:], node.dtype, starts, ends, episodes, before, after)
        row = max(1, int(np.prod(node.shape[1:])) * node.dtype.itemsize)
        for group in _blocks(starts, ends, episodes, max(1, BLOCK_BYTES // row)):
            first = int(starts[group[0]])
            _fill(data, offset, store.read(key, first, int(ends[group[-1]])), first, starts, ends, group)
        _pad(data, offset, starts, ends, episodes, before, after, zero_end)
        return cls(torch.from_numpy(data), torch.from_numpy(offset), before, after)

    @classmethod
    def build(
        cls,
        values: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        episodes: np.ndarray,
        before: int,
        after: int,
        *,
        zero_end: bool = False,
    ) -> PaddedArray:
        """The same from an array [steps, ...] in RAM."""
        data, offset = _allocate(values.shape[1:], values.dtype, starts, ends, episodes, before, after)
        _fill(data, offset, values, 0, starts, ends, episodes)
        _pad(data, offset, starts, ends, episodes, before, after, zero_end)
        return cls(torch.from_numpy(data), torch.from_numpy(offset), before, after)

    def windows(
        self, step: Tensor, episode: Tensor, shift: int, length: int, stride: int, out: Tensor | None = None
    ) -> Tensor:
        """Rows step+shift, step+shift+stride, ... of each, [B, length, ...]; one block copy each when stride is 1.

        `shift` and `length` must stay within the padding: steps t-before .. (last step)+after.
        """
        shape = tuple(self.data.shape[1:])
        flat = self.data.view(len(self.data), -1)
        width, span = flat.shape[1], (length - 1) * stride + 1
        start = step + self.offset[episode] + shift
        target = None if out is None else out.view(len(step), *((-1,) if stride == 1 else (length, width)))
        if len(flat) < span:
            raise DataError(f"a window of {span} steps does not fit into {len(flat)} padded rows")
        if stride == 1:
            view = flat.as_strided((len(flat) - span + 1, length * width), (width, 1))
        else:
            view = flat.as_strided((len(flat) - span + 1, length, width), (width, stride * width, 1))
        taken = (
            torch.index_select(view, 0, start)
            if target is None
            else torch.index_select(view, 0, start, out=target)
        )
        return taken.view(len(step), length, *shape)

    def rows(self, step: Tensor, episode: Tensor) -> Tensor:
        """Single steps, [B, ...]."""
        return torch.index_select(self.data, 0, step + self.offset[episode])


def _allocate(
    shape: tuple[int, ...],
    dtype: np.dtype,
    starts: np.ndarray,
    ends: np.ndarray,
    episodes: np.ndarray,
    before: int,
    after: int,
) -> tuple[np.ndarray, np.ndarray]:
    lengths = ends[episodes] - starts[episodes] + before + after
    offset = np.zeros(len(starts), np.int64)
    offset[episodes] = (
        np.concatenate([[0], np.cumsum(lengths)[:-1]])[: len(episodes)] + before - starts[episodes]
    )
    return np.empty((int(lengths.sum()), *shape), dtype), offset


def _blocks(starts: np.ndarray, ends: np.ndarray, episodes: np.ndarray, rows: int) -> list[np.ndarray]:
    """Split the episodes into runs of neighbours of about `rows` steps."""
    if not len(episodes):
        return []
    cuts, size = [], 0
    for i in range(1, len(episodes)):
        size += int(ends[episodes[i - 1]] - starts[episodes[i - 1]])
        if size >= rows or episodes[i] != episodes[i - 1] + 1:
            cuts.append(i)
            size = 0
    return np.split(episodes, cuts)


def _fill(
    data: np.ndarray,
    offset: np.ndarray,
    values: np.ndarray,
    first: int,
    starts: np.ndarray,
    ends: np.ndarray,
    episodes: np.ndarray,
) -> None:
    for e in episodes:
        start, end = int(starts[e]), int(ends[e])
        data[start + offset[e] : end + offset[e]] = values[start - first : end - first]


def _pad(
    data: np.ndarray,
    offset: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    episodes: np.ndarray,
    before: int,
    after: int,
    zero_end: bool,
) -> None:
    for e in episodes:
        start, end = int(starts[e] + offset[e]), int(ends[e] + offset[e])
        data[start - before : start] = data[start]
        data[end : end + after] = 0 if zero_end else data[end - 1]
