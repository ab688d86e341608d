"""A published gymnasium environment as a task of this registry: same physics, rewards and seeds, plus contract and states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from sim_envs.mujoco_env import MujocoTaskEnv, load_mujoco
from sim_envs.spec import TaskSpec

FREE_CAMERA = "overview"


def build(name: str, **options: Any) -> gymnasium.Env:
    """The unwrapped environment `name` of gymnasium or gymnasium-robotics."""
    load_mujoco()
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make(name, **options).unwrapped


class GymnasiumTask(MujocoTaskEnv):
    """Base of the wrapped tasks. An episode of seed s is the episode of the published environment reset with seed s.

    A subclass defines `observe_state` and `success` from the model's state, and may override `advance`.
    viewpoint: (look-at x, y, z, distance, azimuth, elevation) of the camera "overview" in m and degrees.
    """

    viewpoint: tuple[float, float, float, float, float, float] = (0.0, 0.0, 0.0, 4.0, 90.0, -45.0)

    def __init__(
        self,
        task: TaskSpec,
        inner: Any,
        *,
        observations: Mapping[str, dict[str, Any]],
        action: Mapping[str, Any],
        substeps: int,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        self.inner = inner
        super().__init__(
            task,
            inner.model,
            inner.data,
            observations=observations,
            action=action,
            substeps=substeps,
            cameras=cameras,
            image_size=image_size,
            render_mode=render_mode,
            render_size=render_size,
        )

    def begin(self, rng: np.random.Generator) -> None:
        self.inner.reset(seed=self.episode_seed)

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        _, reward, terminated, _, _ = self.inner.step(action)
        return float(reward), bool(terminated)

    def render_camera(self, camera: str) -> Any:
        if camera != FREE_CAMERA:
            return camera
        view = load_mujoco().MjvCamera()
        *view.lookat[:], view.distance, view.azimuth, view.elevation = self.viewpoint
        return view

    def close(self) -> None:
        super().close()
        self.inner.close()
