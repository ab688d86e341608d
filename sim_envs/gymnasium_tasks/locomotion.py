"""Hopper, HalfCheetah and Walker2d of gymnasium (v5): the bodies of the D4RL locomotion datasets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.gymnasium_tasks.base import GymnasiumTask, build
from sim_envs.reference_scores import REFERENCE_SCORES
from sim_envs.spec import TaskSpec

_LEG = ("thigh", "leg", "foot")
_JOINTS = {
    "Hopper": _LEG,
    "HalfCheetah": ("back_thigh", "back_shin", "back_foot", "front_thigh", "front_shin", "front_foot"),
    "Walker2d": (*(f"right_{name}" for name in _LEG), *(f"left_{name}" for name in _LEG)),
}


class Locomotion(GymnasiumTask):
    """Run forward in the vertical plane.

    Observation: torso (height m, pitch rad), joint angles rad, torso velocity (x m/s, z m/s, pitch rad/s), joint
    velocities rad/s. The forward position is left out, as published. Action: normalised joint torques in [-1, 1].
    Reward: forward velocity + 1 while healthy (not HalfCheetah) - control cost. Hopper and Walker2d terminate when they
    fall. info["success"]: the return of the episode so far has reached the expert's reference score.
    """

    available_cameras = ("track",)

    def __init__(
        self,
        task: TaskSpec,
        body: str,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        inner = build(f"{body}-v5")
        joints = _JOINTS[body]
        count = len(joints)
        self.episode_return = 0.0
        self.expert_return = REFERENCE_SCORES[task.id].expert
        self.joint_count = count
        super().__init__(
            task,
            inner,
            seen=5 + 2 * count,
            observations={
                "torso": fields.state(2, "m, rad", names=("z", "pitch")),
                "joint_positions": fields.state(count, "rad", "joint", names=joints),
                "torso_velocity": fields.state(3, "m/s, m/s, rad/s", names=("vx", "vz", "pitch_rate")),
                "joint_velocities": fields.state(count, "rad/s", "joint", names=joints),
            },
            action=fields.action(
                count, unit="1", space="joint", controller="torque", frame="joint", names=joints
            ),
            substeps=inner.frame_skip,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def begin(self, rng: np.random.Generator) -> None:
        super().begin(rng)
        self.episode_return = 0.0

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        reward, terminated = super().advance(action)
        self.episode_return += reward
        return reward, terminated

    def observe_state(self) -> Observation:
        n = self.joint_count
        return {
            "torso": self.seen[:2],
            "joint_positions": self.seen[2 : 2 + n],
            "torso_velocity": self.seen[2 + n : 5 + n],
            "joint_velocities": self.seen[5 + n :],
        }

    def set_observation(self, observation: Observation) -> None:
        """The body at the forward position 0. Velocities beyond +-10 are clipped in the published observation."""
        torso, velocity = observation["torso"], observation["torso_velocity"]
        positions = np.concatenate([[0.0], torso, observation["joint_positions"]])
        self.set_kinematics(positions, np.concatenate([velocity, observation["joint_velocities"]]))
        self.seen = np.concatenate([positions[1:], self.data.qvel])

    def success(self) -> bool:
        return self.episode_return >= self.expert_return

    def memory(self) -> np.ndarray:
        return np.array([self.episode_return])

    def set_memory(self, memory: np.ndarray) -> None:
        self.episode_return = float(memory[0])
