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

    def base(self, step: np.ndarray, episode: np.ndarray) -> np.ndarray:
        """For each step, the row `before` rows ahead of it: where the views of `window_view` count from."""
        return step + self.offset.numpy()[episode] - self.before

    def window_view(self, shift: int, length: int, stride: int) -> WindowView:
        """Windows of the rows step+shift, step+shift+stride, ...; DataError when they reach beyond the padding."""
        reach = shift + (length - 1) * stride
        if shift < -self.before or reach > self.after:
            raise DataError(f"steps {shift}..{reach} reach beyond the padding {-self.before}..{self.after}")
        flat = self.data.view(len(self.data), -1)
        width = flat.shape[1]
        # Row i of the view is the window of the step whose `base` is i; neighbours overlap in memory.
        rows = len(flat) - self.before - reach
        shape, strides = (rows, length, width), (width, stride * width, 1)
        if stride == 1:
            shape, strides = (rows, length * width), (width, 1)  # type: ignore[assignment]
        view = flat.as_strided(shape, strides, (self.before + shift) * width)
        return WindowView(view, (length, *self.data.shape[1:]))

    def rows(self, step: Tensor, episode: Tensor) -> Tensor:
        """Single steps, [B, ...]."""
        return torch.index_select(self.data, 0, step + self.offset[episode])


@dataclass(frozen=True)
class WindowView:
    """Overlapping windows over padded rows. view: [windows, numbers] (one block each) or [windows, length, numbers]."""

    view: Tensor
    shape: tuple[int, ...]

    def take(self, base: Tensor, out: Tensor | None = None) -> Tensor:
        """The windows [B, length, ...] of steps with these bases, copied into `out` where given."""
        if out is None:
            return torch.index_select(self.view, 0, base).view(-1, *self.shape)
        torch.index_select(self.view, 0, base, out=out.view(-1, *self.view.shape[1:]))
        return out


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
