"""Learned policies and snapshots of a learner as demonstrators of the locomotion tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_envs.behaviour.policy import learner
from sim_envs.env import Observation
from sim_envs.spec import TaskSpec


class LearnedExpert:
    """Plays as the learner did, with its action noise; the expert without. `mode` is the quality.

    Qualities: "random" (uniform actions), "medium", "expert", and "stage-01", "stage-02", ...: the learner at equal
    intervals of its training, from its start until it was "medium".
    """

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.mode = quality
        self.policy = None if quality == "random" else learner(task.id.split("/")[1]).policy(quality)

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return "1" if self.policy is None else self.policy.version

    def reset(self, env: Any) -> None:
        """Nothing to draw: the policy remembers nothing."""
        self.size = env.action_space.shape

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """Normalised torques, float32 [A]."""
        if self.policy is None:
            return self.rng.uniform(-1.0, 1.0, self.size).astype(np.float32)
        return self.policy.sample(np.concatenate(list(observation.values())), self.rng)
