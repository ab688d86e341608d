"""Demonstrators of the Fetch tasks: go behind the block and push it, or grasp it and carry it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_envs.env import Observation
from sim_envs.experts import Noise, quality_named
from sim_envs.spec import TaskSpec

REACH = 0.05  # m of gripper travel that action 1.0 asks for
PUSH_HEIGHT = 0.43  # m, fingertips beside the block


class FetchExpert:
    """Pushes ("fetch/push") or grasps and carries ("fetch/pick-and-place"). `mode` names pace and path."""

    version = "1"

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        self.pushes = task.id.endswith("push")
        self.mode = ""

    def reset(self, env: Any) -> None:
        """Draw pace, travel height, aim and whether the carry goes straight or over an arc."""
        self.gain = self.quality.speed * float(self.rng.uniform(0.8, 1.3))
        self.high = float(self.rng.uniform(0.49, 0.56))
        self.arc = bool(self.rng.random() < 0.5)
        self.aim = self.quality.offset * self.rng.normal(0.0, 0.003, 2)
        if self.rng.random() < self.quality.mistakes:
            self.aim = self.aim + self.rng.choice([-1.0, 1.0], 2) * 0.02
        self.noise = Noise(self.rng, np.full(3, 0.03 * self.quality.noise))
        self.closing = 0
        path = "high" if self.high > 0.525 else "low"
        self.mode = f"push,{path}" if self.pushes else f"grasp,{'arc' if self.arc else 'straight'},{path}"

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """Gripper displacement and finger command, float32 [4] in [-1, 1]."""
        gripper, block, goal = (
            observation[key].astype(np.float64) for key in ("gripper_position", "block_position", "goal")
        )
        target, finger = (
            self._push(gripper, block, goal) if self.pushes else self._carry(gripper, block, goal)
        )
        move = self.gain * (target - gripper) / REACH + self.noise.step()
        return np.clip([*move, finger], -1.0, 1.0).astype(np.float32)

    def _push(self, gripper: np.ndarray, block: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, float]:
        way = goal[:2] - block[:2]
        distance = float(np.linalg.norm(way))
        if distance < 0.012:
            return gripper, -1.0
        way = way / distance
        behind = block[:2] - 0.075 * way + self.aim
        offset = gripper[:2] - block[:2]
        along, across = float(offset @ way), float(offset @ np.array([-way[1], way[0]]))
        if along < -0.03 and abs(across) < 0.018 + 0.2 * abs(self.aim).max():
            if gripper[2] > PUSH_HEIGHT + 0.02:
                return np.array([*behind, PUSH_HEIGHT]), -1.0
            ahead = min(distance, 0.06)
            aimed = block[:2] + (ahead - 0.035) * way - 1.2 * across * np.array([-way[1], way[0]])
            return np.array([*aimed, PUSH_HEIGHT]), -1.0
        near = float(np.linalg.norm(gripper[:2] - behind)) < 0.02
        return np.array([*behind, PUSH_HEIGHT if near else self.high]), -1.0

    def _carry(self, gripper: np.ndarray, block: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, float]:
        aim = np.array([*self.aim, 0.0])
        held = float(np.linalg.norm(gripper - block)) < 0.03 and self.closing > 3
        if held:
            if self.arc and float(np.linalg.norm((goal - block)[:2])) > 0.04:
                return np.array([goal[0], goal[1], max(goal[2], 0.50)]), -1.0
            return goal, -1.0
        over = float(np.linalg.norm((gripper - block - aim)[:2]))
        if over > 0.015:
            self.closing = 0
            return np.array([*(block + aim)[:2], block[2] + 0.08]), 1.0
        if gripper[2] - block[2] > 0.012 and not self.closing:
            return block + aim, 1.0
        self.closing += 1
        return block + aim, -1.0
