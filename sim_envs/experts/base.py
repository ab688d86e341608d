"""What a scripted demonstrator is, the quality levels, and its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sim_envs.errors import unknown


@runtime_checkable
class Expert(Protocol):
    """A demonstrator. It may read the simulator's true state; the dataset keeps only the observations.

    mode: the strategy that the last `reset` drew ("left,yaw90"). version: changes whenever its behaviour changes.
    """

    mode: str
    version: str

    def reset(self, env: Any) -> None:
        """Draw a strategy for the episode that `env` has just begun."""

    def act(self, env: Any, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The action for the present state, float32 [action dimension]."""


@dataclass(frozen=True)
class Quality:
    """How well a demonstrator performs.

    noise: scale of the action noise. speed: multiplies the range that the pace is drawn from.
    offset: scale of the error in where it grasps or aims. mistakes: probability of an episode with a real mistake
    (a missed grasp, an early release, a wrong target), which it may or may not recover from.
    """

    name: str
    noise: float
    speed: float
    offset: float
    mistakes: float


LEVELS = {
    level.name: level
    for level in (
        Quality("expert", noise=1.0, speed=1.0, offset=1.0, mistakes=0.0),
        Quality("good", noise=2.0, speed=0.85, offset=1.3, mistakes=0.1),
        Quality("okay", noise=3.5, speed=0.7, offset=1.8, mistakes=0.4),
        Quality("poor", noise=6.0, speed=0.55, offset=2.6, mistakes=0.8),
    )
}


def quality_named(name: str) -> Quality:
    """The level by name. Raises SimEnvError."""
    if name not in LEVELS:
        raise unknown("quality", name, LEVELS)
    return LEVELS[name]


class Noise:
    """Ornstein-Uhlenbeck noise with stationary standard deviation `scale` [dimension] and time constant `tau` steps."""

    def __init__(self, rng: np.random.Generator, scale: np.ndarray, tau: float = 8.0):
        self.rng = rng
        self.scale = np.asarray(scale, dtype=np.float64)
        self.decay = float(np.exp(-1.0 / tau))
        self.value = np.zeros_like(self.scale)

    def step(self) -> np.ndarray:
        """The next value [dimension]."""
        kick = np.sqrt(1.0 - self.decay**2) * self.scale * self.rng.standard_normal(self.scale.shape)
        self.value = self.decay * self.value + kick
        return self.value.copy()
