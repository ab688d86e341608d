"""From an operator's input to the action of a robosuite task, whichever controller it has."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_envs.errors import SimEnvError
from sim_envs.teleoperation.device import OPEN, Input

MOVED = 1e-3  # a twist below this share of the largest one is no motion


class Driver:
    """Encodes inputs for one arm of `env`; the other arms hold still. Raises SimEnvError for tasks without a gripper pose."""

    def __init__(self, env: Any) -> None:
        self.env = env.unwrapped
        if not hasattr(self.env, "encode") or not hasattr(self.env, "raw"):
            raise SimEnvError(
                f"task '{self.env.task.id}' cannot be teleoperated: only the robosuite tasks have a gripper that a device "
                "can lead. See: diffbot list tasks"
            )
        self.arms = len(self.env.raw.robots)
        self.reset()

    def reset(self) -> None:
        """Forget gripper commands and return to the first arm: a new episode begins."""
        self.arm = 0
        self.grips = [OPEN] * self.arms

    def switch(self) -> None:
        """Lead the next arm."""
        self.arm = (self.arm + 1) % self.arms

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] (m) and quaternion [4] (w, x, y, z) of the led gripper in the world frame."""
        from sim_envs.robosuite.observations import eef_pose, quaternion

        position, rotation = eef_pose(self.env.raw, self.arm)
        return position, quaternion(rotation)[[3, 0, 1, 2]]

    def action(self, given: Input) -> tuple[np.ndarray, bool]:
        """The action, float32 [dimension], and whether the operator moves anything with it."""
        from sim_envs.robosuite.actions import ROTATION, TRANSLATION, Twist

        twist = np.clip(np.asarray(given.twist, np.float64), -1, 1)
        active = bool(np.abs(twist).max() > MOVED) or given.grip != self.grips[self.arm]
        self.grips[self.arm] = float(np.clip(given.grip, -1, 1))
        still = np.zeros(3)
        twists = [Twist(still, still, grip) for grip in self.grips]
        twists[self.arm] = Twist(twist[:3] * TRANSLATION, twist[3:] * ROTATION, self.grips[self.arm])
        action = self.env.encode(*twists)
        if given.joints is not None:
            active = self._follow(action, given.joints) or active
        return action, active

    def rest(self) -> np.ndarray:
        """The action that keeps every arm where it is, with the fingers as they are."""
        return self.action(Input(grip=self.grips[self.arm]))[0]

    def _follow(self, action: np.ndarray, joints: np.ndarray) -> bool:
        """Write a leader's joint positions into `action`; returns whether they differ from where the arm is."""
        if (self.env.controller, self.env.action_mode) != ("JOINT_POSITION", "absolute"):
            raise SimEnvError(
                f"a leader arm gives absolute joint positions; this task runs {self.env.controller} with "
                f"{self.env.action_mode} actions. Use: +env.controller=JOINT_POSITION +env.action_mode=absolute"
            )
        width = len(action) // self.arms - 1
        if np.shape(joints) != (width,) or not np.isfinite(joints).all():
            raise SimEnvError(
                f"a leader's joints must be {width} finite numbers, got {np.asarray(joints).tolist()}"
            )
        start = self.arm * (width + 1)
        moved = bool(np.abs(action[start : start + width] - joints).max() > 0.01)
        action[start : start + width] = joints
        return moved
