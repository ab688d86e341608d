"""The Push-T environment on a MuJoCo model.

Task, sizes, rate (10 Hz, ten physics steps), action (set-point of the pusher), start distribution, reward and success
follow Chi et al., "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion", RSS 2023; 1 pixel there is
1 mm here. The physics differ (MuJoCo, the pusher has mass 1 kg and gains 200/20), so scores are not interchangeable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.mujoco_env import MujocoTaskEnv
from sim_envs.pusht import geometry
from sim_envs.spec import TaskSpec

MODEL = Path(__file__).with_name("pusht.xml")
SIZE = 0.512  # m, side of the square workspace
PUSHER_RADIUS = 0.015  # m
SUCCESS_COVERAGE = 0.95
SUBSTEPS = 10
STATE_KEYS = ("pusher_position", "pusher_velocity", "block_position", "block_rotation", "block_keypoints")

_XY = ("x", "y")
_OBSERVATIONS = {
    "pusher_position": fields.state(2, "m", low=0.0, high=SIZE, names=_XY),
    "pusher_velocity": fields.state(2, "m/s", names=_XY),
    "block_position": fields.state(2, "m", low=-0.1, high=SIZE + 0.1, names=_XY),
    "block_rotation": fields.state(2, "1", low=-1.0, high=1.0, names=("cos", "sin")),
    "block_keypoints": fields.state(
        16, "m", low=-0.1, high=SIZE + 0.1, names=[f"{axis}{i}" for i in range(8) for axis in _XY]
    ),
}
_ACTION = fields.action(
    2, unit="m", low=0.0, high=SIZE, space="cartesian", controller="position_pd_200_20", names=_XY
)


class PushT(MujocoTaskEnv):
    """Push the T onto the goal pose (0.256 m, 0.256 m, 45 degrees).

    Observation (all world frame): pusher position and velocity, block position (published origin), rotation (cos, sin),
    the eight corners. Action: the pusher's target position in m, in [0, 0.512]^2. Reward: min(coverage / 0.95, 1).
    Terminates at success when `terminate_on_success`; truncates after 300 steps (30 s).
    """

    available_cameras = ("overhead",)

    def __init__(
        self,
        task: TaskSpec,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
        terminate_on_success: bool = True,
    ):
        model = mujoco.MjModel.from_xml_path(str(MODEL))
        self.terminate_on_success = terminate_on_success
        self._covered = (b"", 0.0)  # joints for which the coverage was computed last, and the coverage
        super().__init__(
            task,
            model,
            mujoco.MjData(model),
            observations=_OBSERVATIONS,
            action=_ACTION,
            substeps=SUBSTEPS,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    @property
    def block_pose(self) -> np.ndarray:
        """(x, y, angle) of the T's published origin [3] in m and rad."""
        return geometry.pose_from_joints(self.data.qpos[:3])

    @property
    def pusher_position(self) -> np.ndarray:
        """Position [2] of the pusher in m."""
        return self.data.qpos[3:5].copy()

    def coverage(self) -> float:
        """Share of the goal's area that the T covers, in [0, 1]."""
        joints = self.data.qpos[:3].tobytes()
        if joints != self._covered[0]:
            self._covered = (joints, geometry.coverage(self.block_pose))
        return self._covered[1]

    def begin(self, rng: np.random.Generator) -> None:
        mujoco.mj_resetData(self.model, self.data)
        while True:
            pusher = rng.uniform(0.050, 0.450, 2)
            block = np.array([*rng.uniform(0.100, 0.400, 2), rng.uniform(-np.pi, np.pi)])
            corners = geometry.to_world(block, geometry.OUTLINE)
            inside = ((corners > 0) & (corners < SIZE)).all()
            apart = geometry.distance_to_block(block, pusher) > PUSHER_RADIUS + 0.001
            if inside and apart and geometry.coverage(block) < SUCCESS_COVERAGE:
                break
        self.data.qpos[:] = [*geometry.joints_from_pose(block), *pusher]
        self.data.ctrl[:] = pusher
        mujoco.mj_forward(self.model, self.data)

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, nstep=self.substeps)
        covered = self.coverage()
        return min(covered / SUCCESS_COVERAGE, 1.0), self.terminate_on_success and covered >= SUCCESS_COVERAGE

    def observe_state(self) -> Observation:
        pose = self.block_pose
        return {
            "pusher_position": self.data.qpos[3:5],
            "pusher_velocity": self.data.qvel[3:5],
            "block_position": pose[:2],
            "block_rotation": np.array([np.cos(pose[2]), np.sin(pose[2])]),
            "block_keypoints": geometry.to_world(pose, geometry.OUTLINE).ravel(),
        }

    def success(self) -> bool:
        return self.coverage() >= SUCCESS_COVERAGE

    def episode_info(self) -> dict[str, float]:
        return {"coverage": self.coverage()}
