"""Which steps make up a training window, and the rules at the ends of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from diffbot.errors import ConfigError


@dataclass(frozen=True)
class WindowSpec:
    """A window at step t of an episode of T steps.

    Observation i (of To) is that of step t - (To-1-i)·stride, action j (of H) that of step t + j·stride. Steps before
    the episode repeat its first step. Behind the end observations and actions repeat the last step, or actions are zero
    (`pad_action`, right for delta actions); `mask` is False there.
    """

    observation_horizon: int = 1  # To
    horizon: int = 16  # H
    keys: tuple[str, ...] | None = None  # observation keys; None: all of the contract
    stride: int = 1  # steps between neighbours within a window (jumpy planners); 1: every step
    every: int = 1  # steps between the starts of windows
    pad_start: int | None = (
        None  # the most repeated observations allowed; None: any number, so windows start at step 0
    )
    pad_end: int | None = (
        None  # the most masked actions allowed; None: any number, so windows start at step T-1
    )
    pad_action: Literal["repeat", "zero"] = "repeat"
    observe_future: bool = False  # observations also cover the horizon (planners), [To-1+H, ...]
    rewards: bool = False  # needs the key 'reward'
    terminals: bool = False  # needs the key 'terminated'
    returns: bool = False  # needs the key 'reward'
    discount: float = 1.0  # of the returns, in (0, 1]
    next_observations: bool = False  # drops windows whose next observation a time limit cut off
    goal: Literal["none", "future", "final"] = "none"  # hindsight: a random later step, or the last step
    goal_keys: tuple[str, ...] | None = None  # None: all observation keys
    task: str | None = None  # name of the per-episode array that says the task

    def __post_init__(self) -> None:
        for name in ("observation_horizon", "horizon", "stride", "every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("pad_start", "pad_end"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} must be 0 or more, got {value}")
        if not 0 < self.discount <= 1:
            raise ConfigError(f"discount must be in (0, 1], got {self.discount}")
        if self.pad_action not in ("repeat", "zero"):
            raise ConfigError(f"pad_action '{self.pad_action}' is not one of repeat, zero")
        if self.goal not in ("none", "future", "final"):
            raise ConfigError(f"goal '{self.goal}' is not one of none, future, final")

    @property
    def observation_steps(self) -> int:
        """Number of observations in a window."""
        return self.observation_horizon + (self.horizon - 1 if self.observe_future else 0)

    @property
    def single(self) -> bool:
        """Whether a window is one transition and needs none of its neighbours."""
        return self.observation_horizon == self.horizon == 1 and not self.returns and self.goal == "none"

    @property
    def back(self) -> int:
        """Steps that the window reaches back before t."""
        return (self.observation_horizon - 1) * self.stride

    @property
    def ahead(self) -> int:
        """Steps that the actions reach beyond t."""
        return (self.horizon - 1) * self.stride


@dataclass(frozen=True)
class WindowTable:
    """All windows of a dataset: int64 [windows] arrays of step (in the whole dataset), episode, and valid actions."""

    step: np.ndarray
    episode: np.ndarray
    valid: np.ndarray
    skipped_episodes: int  # episodes too short for the padding allowed

    @classmethod
    def build(
        cls,
        spec: WindowSpec,
        starts: np.ndarray,
        ends: np.ndarray,
        episodes: np.ndarray,
        terminated: np.ndarray | None,
    ) -> WindowTable:
        """List the windows of the chosen `episodes`.

        terminated: bool [steps]; given exactly when next observations are asked for. A window is then kept only if
        step t+H·stride exists, or if the task terminated at one of the window's own steps, where no next is needed.
        """
        steps, numbers, skipped = [], [], 0
        pad_start = spec.observation_horizon - 1 if spec.pad_start is None else spec.pad_start
        pad_end = spec.horizon - 1 if spec.pad_end is None else spec.pad_end
        first = max(0, (spec.observation_horizon - 1 - pad_start) * spec.stride)
        beyond = max(0, (spec.horizon - 1 - pad_end) * spec.stride)
        for e in episodes:
            window = (
                np.arange(first, int(ends[e] - starts[e]) - beyond, spec.every, dtype=np.int64) + starts[e]
            )
            if terminated is not None:
                after = window + spec.horizon * spec.stride
                window = window[(after < ends[e]) | terminated[ends[e] - 1]]
            skipped += len(window) == 0
            steps.append(window)
            numbers.append(np.full(len(window), e, np.int64))
        step = np.concatenate(steps) if steps else np.zeros(0, np.int64)
        episode = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
        remaining = ends[episode] - step
        valid = np.minimum(spec.horizon, -(-remaining // spec.stride))
        return cls(step, episode, valid, skipped)
