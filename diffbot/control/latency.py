"""One model of delay for simulated evaluation and for the nodes: how old, how slow, how late, how often lost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from diffbot.errors import ConfigError, unknown


@dataclass(frozen=True)
class Latency:
    """Delays in seconds; all zero is the ideal robot.

    observation: from the moment that a sensor measures to the policy seeing it. inference: from that to the chunk's
    arrival. actuation: from command to effect. jitter: standard deviation, as a fraction of each delay, of a log-normal
    factor with mean 1. drop: probability that one observation is lost.
    """

    observation: float = 0.0
    inference: float = 0.0
    actuation: float = 0.0
    jitter: float = 0.0
    drop: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"latency {field.name} must be a number >= 0, got {value}")
        if self.drop >= 1.0:
            raise ConfigError(f"latency drop is a probability below 1, got {self.drop}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Latency:
        """Read a mapping of names to numbers. Raises ConfigError for unknown names."""
        valid = {f.name for f in fields(cls)}
        for name in data:
            if name not in valid:
                raise unknown("latency", name, valid)
        return cls(**{name: float(value) for name, value in data.items()})

    @classmethod
    def steps(cls, inference: float, rate: float, **rest: float) -> Latency:
        """Inference delay given in control steps at `rate` Hz."""
        return cls(inference=inference / rate, **rest)

    def sample(self, delay: str, rng: np.random.Generator) -> float:
        """One draw of the delay named "observation", "inference" or "actuation", s."""
        mean = float(getattr(self, delay))
        if not mean or not self.jitter:
            return mean
        variance = math.log1p(self.jitter**2)
        return mean * math.exp(rng.normal(-0.5 * variance, math.sqrt(variance)))

    def dropped(self, rng: np.random.Generator) -> bool:
        """Whether one observation is lost."""
        return bool(self.drop) and bool(rng.random() < self.drop)


class DelayEstimate:
    """Steps that pass between an observation and its chunk's arrival, from what was measured.

    The largest of the last `memory` delays, as in Black et al. 2025, algorithm 1 (their buffer Q); the first `cold` ones
    after a start are not counted, since a first inference loads and compiles.
    """

    def __init__(self, period: float, memory: int = 10, cold: int = 1, initial: float = 0.0) -> None:
        self.period = period
        self.cold = cold
        self._initial = initial
        self._recent: deque[float] = deque(maxlen=memory)
        self._seen = 0

    def add(self, seconds: float) -> None:
        """Record one measured delay, s."""
        self._seen += 1
        if self._seen > self.cold:
            self._recent.append(seconds)

    @property
    def seconds(self) -> float:
        """The delay to expect, s."""
        return max(self._recent, default=self._initial)

    @property
    def steps(self) -> int:
        """The delay to expect in whole control steps, rounded up."""
        return max(0, math.ceil(self.seconds / self.period - 1e-3))
