"""From topics that arrive at their own rates and in any order to one observation for each control step, by stamps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

GRID_TOLERANCE = 0.25  # of a step: a 30 Hz camera serves a 20 Hz grid on average, exact grids stay exact


class RefusedError(ValueError):
    """A sample that must not be used; the message says why."""


class BackwardsError(RefusedError):
    """A stamp older than one that was taken already: repeated, it means that the clock was set back."""


@dataclass(frozen=True)
class Frame:
    """All observations of one control step. time: s; values by key."""

    time: float
    values: dict[str, np.ndarray]


@dataclass
class Aligner:
    """Collects samples by key and emits a frame when every key has reached the next instant of the time grid.

    step: grid spacing in s; max_age: oldest sample in s that may still stand for its key in a frame.
    A frame's time is the newest instant that all keys have reached; each key gives its newest sample up to it.
    """

    keys: Iterable[str]
    step: float
    max_age: float = 0.2
    depth: int = 64
    _samples: dict[str, deque[tuple[float, np.ndarray]]] = field(init=False, default_factory=dict)
    _next: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.keys = tuple(self.keys)
        self.reset()

    def reset(self, until: float = math.inf) -> None:
        """Forget the samples up to `until` (s) and start a new grid."""
        kept = {key: [s for s in samples if s[0] > until] for key, samples in self._samples.items()}
        self._samples = {key: deque(kept.get(key, ()), maxlen=self.depth) for key in self.keys}
        self._next = None

    def push(self, key: str, time: float, value: np.ndarray) -> Frame | None:
        """Add a sample; return the frame that it completed, if any. Raises BackwardsError for an older stamp.

        A repeated stamp is the same sample sent twice and changes nothing.
        """
        samples = self._samples[key]
        if samples and time == samples[-1][0]:
            return None
        if samples and time < samples[-1][0]:
            raise BackwardsError(
                f"'{key}' at {time:.6f} s is not newer than the one before ({samples[-1][0]:.6f} s)"
            )
        samples.append((time, value))
        return self._frame()

    def oldest(self) -> tuple[str, float | None]:
        """The key that is furthest behind and the time of its newest sample (None when it never came)."""
        times = {key: samples[-1][0] if samples else None for key, samples in self._samples.items()}
        never = next((key for key, time in times.items() if time is None), None)
        if never is not None:
            return never, None
        return min(((key, time) for key, time in times.items() if time is not None), key=lambda item: item[1])

    def _frame(self) -> Frame | None:
        if not all(self._samples.values()):
            return None
        now = min(samples[-1][0] for samples in self._samples.values())
        if self._next is not None and now < self._next - GRID_TOLERANCE * self.step:
            return None
        chosen = {}
        for key, samples in self._samples.items():
            time, value = next((s for s in reversed(samples) if s[0] <= now), samples[0])
            if not 0.0 <= now - time <= self.max_age:
                return None
            chosen[key] = value
        grid = now if self._next is None else self._next
        self._next = max(grid, now - GRID_TOLERANCE * self.step) + self.step
        return Frame(now, chosen)
