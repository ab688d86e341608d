"""An endless iterator of batches: several gathered at once, and ahead of time where that pays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from diffbot.data.batch import Batch
from diffbot.data.samplers import PrioritizedSampler, Sampler
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError

GROUP_BYTES = 2 << 20


class Loader:
    """Batches of `windows` in the order of `sampler`.

    group: batches gathered by one call, which share memory; None: as many as make about 2 MB. prefetch: groups that a
    thread prepares ahead; None: 2 when keys are streamed from disk, else 0. pin_memory: copy to page-locked memory.
    `state_dict` counts the batches that were handed out, so resuming is exact whatever was prepared ahead.
    """

    def __init__(
        self,
        windows: Windows,
        sampler: Sampler,
        *,
        group: int | None = None,
        prefetch: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.windows, self.sampler, self.pin_memory = windows, sampler, pin_memory
        live = isinstance(sampler, PrioritizedSampler)  # its next draw depends on the update after this one
        if live and (group not in (None, 1) or prefetch not in (None, 0)):
            raise ConfigError("prioritised sampling cannot gather ahead: use group=1 and prefetch=0")
        if group is None:
            size = sum(v.nbytes for _, v in windows.empty(1).tensors()) * sampler.batch_size
            group = 1 if live else int(np.clip(GROUP_BYTES // size, 1, 64))
        self.group = group
        self.prefetch = (2 if windows.streamed else 0) if prefetch is None else prefetch
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader") if self.prefetch else None
        self._coming: deque[Future[list[Batch]]] = deque()
        self._ready: deque[Batch] = deque()
        self._handed_out = sampler.batches

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._ready:
            self._ready.extend(self._next_group())
        self._handed_out += 1
        return self._ready.popleft()

    def _next_group(self) -> list[Batch]:
        if self._pool is None:
            return self._gather(*self._draw())
        while len(self._coming) <= self.prefetch:
            self._coming.append(self._pool.submit(self._gather, *self._draw()))
        return self._coming.popleft().result()

    def _draw(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Window numbers of a group, and what its goals are drawn with; each batch's depend on its own number only."""
        goals = self.windows.spec.goal == "future"
        indices, draws = [], []
        for _ in range(self.group):
            indices.append(next(self.sampler))
            if goals:
                draws.append(self.sampler.generator().random(self.sampler.batch_size))
        return np.concatenate(indices), np.concatenate(draws) if goals else None

    def _gather(self, indices: np.ndarray, draws: np.ndarray | None) -> list[Batch]:
        whole = self.windows.gather(indices, goal_draws=draws)
        if self.pin_memory:
            whole = whole.pin_memory()
        return split_batch(whole, self.group)

    def state_dict(self) -> dict[str, Any]:
        """The sampler's state after the batches handed out."""
        return {**self.sampler.state_dict(), "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly; raises DataError when the state is of other data or settings."""
        for future in self._coming:
            future.cancel()
        self._coming.clear()
        self._ready.clear()
        self.sampler.load_state_dict(state)
        self._handed_out = self.sampler.batches

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Equal parts of a batch, as views."""
    if parts == 1:
        return [batch]

    def cut(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.view(parts, -1, *x.shape[1:]).unbind(0)

    pieces: dict[str, Any] = {}
    for name, value in vars(batch).items():
        if isinstance(value, dict):
            each = {k: cut(v) for k, v in value.items()}
            pieces[name] = [{k: v[i] for k, v in each.items()} for i in range(parts)]
        elif value is not None:
            pieces[name] = cut(value)
    return [Batch(**{name: piece[i] for name, piece in pieces.items()}) for i in range(parts)]
