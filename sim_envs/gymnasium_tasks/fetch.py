"""FetchPush and FetchPickAndPlace of gymnasium-robotics (after Plappert et al., "Multi-Goal RL", 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.gymnasium_tasks.base import FREE_CAMERA, GymnasiumTask, build
from sim_envs.spec import TaskSpec

_XYZ = ("x", "y", "z")


class Fetch(GymnasiumTask):
    """Bring a block to a goal with a Fetch arm at 25 Hz.

    Observation: gripper position [3] m and velocity [3] (m per step), finger positions [2] m and velocities [2], block
    position [3] m, rotation [3] (Euler, rad), velocities [6] (per step, linear part relative to the gripper), goal [3] m.
    Action [4]: gripper displacement in units of 5 cm, finger opening. Reward: -1 until the block is within 5 cm of the
    goal, else 0. Never terminates; success is that distance.
    """

    available_cameras = (FREE_CAMERA,)
    viewpoint = (1.3, 0.75, 0.45, 1.7, 150.0, -25.0)

    def __init__(
        self,
        task: TaskSpec,
        published: str,
        reward: str = "sparse",
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        inner = build(published, reward_type=reward)
        self.target_site = inner.model.site("target0").id
        super().__init__(
            task,
            inner,
            seen=31,
            observations={
                "gripper_position": fields.state(3, "m", names=_XYZ),
                "gripper_velocity": fields.state(3, "m/step", names=_XYZ),
                "finger_positions": fields.state(2, "m", "joint", names=("right", "left")),
                "finger_velocities": fields.state(2, "m/step", "joint", names=("right", "left")),
                "block_position": fields.state(3, "m", names=_XYZ),
                "block_rotation": fields.state(3, "rad", names=("roll", "pitch", "yaw")),
                "block_velocity": fields.state(
                    6, "m/step, rad/step", names=("vx", "vy", "vz", "wx", "wy", "wz")
                ),
                "goal": fields.state(3, "m", names=_XYZ),
            },
            action=fields.action(
                4,
                unit="5 cm",
                meaning="delta",
                space="cartesian",
                controller="mocap",
                names=(*_XYZ, "finger"),
            ),
            substeps=inner.n_substeps,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def begin(self, rng: np.random.Generator) -> None:
        super().begin(rng)
        self._show_goal()

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        result = super().advance(action)
        # The next action moves the mocap body from the gripper's pose, which must be that of the present state.
        mujoco.mj_forward(self.model, self.data)
        return result

    def observe_state(self) -> Observation:
        s = self.seen
        return {
            "gripper_position": s[:3],
            "gripper_velocity": s[20:23],
            "finger_positions": s[9:11],
            "finger_velocities": s[23:25],
            "block_position": s[3:6],
            "block_rotation": s[11:14],
            "block_velocity": s[14:20],
            "goal": s[28:31],
        }

    def set_memory(self, memory: np.ndarray) -> None:
        self.inner.goal = self.seen[28:31].copy()
        self._show_goal()

    def _show_goal(self) -> None:
        body = self.model.site_bodyid[self.target_site]
        self.model.site_pos[self.target_site] = self.inner.goal - self.model.body_pos[body]
