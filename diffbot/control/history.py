"""The last observations, sampled on the contract's time grid by stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np


class ObservationHistory:
    """Holds stamped observations and gives the `horizon` newest ones at spacing `period`.

    The rule is the one of the training windows: entry k of `sample()` belongs to the time of the newest observation minus
    (horizon - 1 - k) periods, and the start of an episode is padded by repeating its first observation. When stamps do
    not fall on the grid, the nearest one is taken.
    """

    def __init__(self, horizon: int, period: float) -> None:
        if horizon < 1:
            raise ValueError(f"an observation horizon is at least 1, got {horizon}")
        self.horizon = horizon
        self.period = period
        self._entries: deque[tuple[float, dict[str, np.ndarray]]] = deque()

    @property
    def newest(self) -> float | None:
        """Stamp of the newest observation, s, or None."""
        return self._entries[-1][0] if self._entries else None

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything: the next observation is the first of an episode."""
        self._entries.clear()

    def push(self, observation: Mapping[str, np.ndarray], time: float) -> bool:
        """Take an observation stamped `time`; False, and nothing kept, when it is not newer than the newest."""
        if self._entries and not time > self._entries[-1][0]:
            return False
        self._entries.append((time, {key: np.array(value) for key, value in observation.items()}))
        oldest = time - (self.horizon + 1) * self.period
        while len(self._entries) > 1 and self._entries[1][0] < oldest:
            self._entries.popleft()
        return True

    def sample(self) -> dict[str, np.ndarray]:
        """Arrays [horizon, ...] by key. Raises LookupError while there is no observation."""
        if not self._entries:
            raise LookupError("no observation yet")
        stamps = np.array([stamp for stamp, _ in self._entries])
        grid = stamps[-1] - np.arange(self.horizon - 1, -1, -1) * self.period
        nearest = np.abs(stamps[:, None] - grid[None, :]).argmin(axis=0)
        chosen = [self._entries[int(i)][1] for i in nearest]
        return {key: np.stack([entry[key] for entry in chosen]) for key in chosen[-1]}
