"""FrankaKitchen of gymnasium-robotics (after Gupta et al., "Relay Policy Learning", CoRL 2019, and D4RL)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.errors import unknown
from sim_envs.gymnasium_tasks.base import (
    FREE_CAMERA,
    GymnasiumTask,
    build,
    generator_state,
    set_generator_state,
)
from sim_envs.spec import TaskSpec

SUBTASKS = (
    "microwave",
    "kettle",
    "bottom burner",
    "light switch",
    "top burner",
    "slide cabinet",
    "hinge cabinet",
)
_ROBOT = (*(f"joint{i}" for i in range(1, 8)), "finger_left", "finger_right")


class Kitchen(GymnasiumTask):
    """Do several things in a kitchen with a Franka arm, in any order, at 12.5 Hz.

    Observation (noisy, as published): arm and finger positions [9] rad or m and velocities [9], object positions [21] and
    velocities [20]. Action: normalised joint velocities [9] in [-1, 1]. Reward: number of sub-tasks completed in this
    step, so that the return counts them; terminates when all are done. info["completed"] names them.
    """

    available_cameras = (FREE_CAMERA,)
    viewpoint = (-0.2, 0.5, 2.0, 2.2, 70.0, -35.0)

    def __init__(
        self,
        task: TaskSpec,
        subtasks: Sequence[str] = SUBTASKS[:4],
        robot_noise: float = 0.01,
        object_noise: float = 0.0005,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        for name in subtasks:
            if name not in SUBTASKS:
                raise unknown("kitchen sub-task", name, SUBTASKS)
        self.subtasks = tuple(subtasks)
        inner = build(
            "FrankaKitchen-v1",
            tasks_to_complete=list(subtasks),
            robot_noise_ratio=robot_noise,
            object_noise_ratio=object_noise,
        )
        super().__init__(
            task,
            inner,
            seen=59,
            observations={
                "robot_positions": fields.state(9, "rad, m", "joint", names=_ROBOT),
                "robot_velocities": fields.state(9, "rad/s, m/s", "joint", names=_ROBOT),
                "object_positions": fields.state(21, "rad, m", "joint and world"),
                "object_velocities": fields.state(20, "rad/s, m/s", "joint and world"),
            },
            action=fields.action(
                9, unit="1", space="joint", controller="joint_velocity", frame="joint", names=_ROBOT
            ),
            substeps=inner.robot_env.frame_skip,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def flat(self, observation: Any) -> np.ndarray:
        return np.array(observation["observation"], dtype=np.float64)

    def solved(self, info: Mapping[str, Any]) -> bool:
        return len(info["episode_task_completions"]) == len(self.subtasks)

    def observe_state(self) -> Observation:
        positions, velocities, objects, object_velocities = np.split(self.seen, [9, 18, 39])
        return {
            "robot_positions": positions,
            "robot_velocities": velocities,
            "object_positions": objects,
            "object_velocities": object_velocities,
        }

    def episode_info(self) -> dict[str, Any]:
        return {"completed": list(self.inner.episode_task_completions)}

    def memory(self) -> np.ndarray:
        done = [name in self.inner.episode_task_completions for name in self.subtasks]
        return np.concatenate([done, generator_state(self.inner.robot_env.np_random)])

    def set_memory(self, memory: np.ndarray) -> None:
        count = len(self.subtasks)
        done = [name for name, flag in zip(self.subtasks, memory[:count], strict=True) if flag]
        self.inner.episode_task_completions[:] = done
        self.inner.tasks_to_complete = set(self.subtasks) - set(done)
        set_generator_state(self.inner.robot_env.np_random, memory[count:])
        self.inner.robot_env._last_robot_qpos = self.seen[
            :9
        ].copy()  # the controller starts from what was observed
