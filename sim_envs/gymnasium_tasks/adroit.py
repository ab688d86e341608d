"""The Adroit pen of gymnasium-robotics (after Rajeswaran et al., "Learning Complex Dexterous Manipulation", RSS 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.gymnasium_tasks.base import GymnasiumTask, build
from sim_envs.spec import TaskSpec

_XYZ = ("x", "y", "z")


class AdroitPen(GymnasiumTask):
    """Turn a pen in a 24-joint hand until it points along the target, at 100 Hz.

    Observation: joint angles [24] rad, pen position [3] m, pen velocity [6], pen direction [3], target direction [3],
    position error [3] m, direction error [3]. Action: normalised joint set-points [24] in [-1, 1].
    Success: within 7.5 cm of the target place and cosine of the angle above 0.95.
    """

    available_cameras = ("fixed",)

    def __init__(
        self,
        task: TaskSpec,
        reward: str = "dense",
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        inner = build("AdroitHandPen-v1", reward_type=reward)
        names = [inner.model.joint(i).name for i in range(24)]
        super().__init__(
            task,
            inner,
            seen=45,
            observations={
                "joint_positions": fields.state(24, "rad", "joint", names=names),
                "pen_position": fields.state(3, "m", names=_XYZ),
                "pen_velocity": fields.state(6, "m/s, rad/s", names=("vx", "vy", "vz", "wx", "wy", "wz")),
                "pen_direction": fields.state(3, "1", names=_XYZ),
                "target_direction": fields.state(3, "1", names=_XYZ),
                "position_error": fields.state(3, "m", names=_XYZ),
                "direction_error": fields.state(3, "1", names=_XYZ),
            },
            action=fields.action(
                24, unit="1", space="joint", controller="joint_position", frame="joint", names=names
            ),
            substeps=inner.frame_skip,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def observe_state(self) -> Observation:
        keys = list(self._contract["observations"])[:7]
        return dict(zip(keys, np.split(self.seen, [24, 27, 33, 36, 39, 42]), strict=True))

    def memory(self) -> np.ndarray:
        target = self.model.body_quat[self.inner.target_obj_body_id]
        return np.array([*target, self.inner.pen_length, self.inner.tar_length])

    def set_memory(self, memory: np.ndarray) -> None:
        self.model.body_quat[self.inner.target_obj_body_id] = memory[:4]
        self.inner.pen_length, self.inner.tar_length = float(memory[4]), float(memory[5])
