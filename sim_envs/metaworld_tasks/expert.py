"""MetaWorld's scripted policies as demonstrators."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from sim_envs.env import Observation
from sim_envs.experts import Noise, quality_named
from sim_envs.spec import TaskSpec

HASTE = ("steady", "hurried")


class MetaWorldExpert:
    """The published scripted policy of the task, with a drawn pace and a detour before it starts. `mode` names both.

    The detour moves the hand for a few steps to one side, so that the same scene is approached from different places.
    """

    version = "1"

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        from metaworld.policies import ENV_POLICY_MAP

        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        policy: Any = ENV_POLICY_MAP[f"{task.options['name']}-v3"]
        self.policy = policy()
        self.mode = ""

    def reset(self, env: Any) -> None:
        """Draw pace, detour and whether this episode contains a pause with an open gripper (a real mistake)."""
        hurried = bool(self.rng.random() < 0.5)
        # Below 0.93 the published policies of "basketball" and "peg-insert-side" miss, as their grasps are timed.
        low, high = (0.98, 1.0) if hurried else (0.94, 0.98)
        self.pace = self.quality.speed**0.5 * float(self.rng.uniform(low, high))
        side = int(self.rng.integers(3))
        self.detour = np.array([(-1.0, 0.0, 1.0)[side], 0.0, 0.3 * abs((-1.0, 0.0, 1.0)[side])])
        self.detour_steps = int(self.rng.integers(3, 8)) if side != 1 else 0
        self.mode = f"{HASTE[hurried]},{('from the left', 'straight', 'from the right')[side]}"
        self.noise = Noise(self.rng, np.array([0.03, 0.03, 0.03, 0.0]) * self.quality.noise)
        self.bias = 0.004 * (self.quality.offset - 1.0) * self.rng.standard_normal(3)
        self.slip = int(self.rng.integers(30, 90)) if self.rng.random() < self.quality.mistakes else -100
        self.step = 0

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """Hand displacement [3] in cm and gripper force, float32 in [-1, 1]."""
        self.step += 1
        seen = env.unwrapped.seen.copy()
        seen[:3] += self.bias
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the policies say that their response will be clipped, as it is
            action = np.asarray(self.policy.get_action(seen), dtype=np.float64)
        action = np.clip(action, -1.0, 1.0)
        if self.step <= self.detour_steps:
            action[:3] = self.detour
        action[:3] *= self.pace
        if 0 <= self.step - self.slip < 15:
            action[3] = -1.0
        return np.clip(action + self.noise.step(), -1.0, 1.0).astype(np.float32)
