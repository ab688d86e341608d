"""A published gymnasium environment as a task of this registry: same physics, rewards and seeds, plus contract and states."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np

from sim_envs.mujoco_env import MujocoTaskEnv
from sim_envs.spec import TaskSpec

FREE_CAMERA = "overview"


def build(name: str, **options: Any) -> Any:
    """The unwrapped environment `name` of gymnasium or gymnasium-robotics."""
    with contextlib.redirect_stderr(io.StringIO()):  # it prints a notice about other tasks
        import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make(name, **options).unwrapped


def generator_state(rng: np.random.Generator) -> np.ndarray:
    """State of a PCG64 generator as whole numbers below 2^32, float64 [10]."""
    state = rng.bit_generator.state
    words = [
        (state["state"][name] >> shift) & 0xFFFFFFFF for name in ("state", "inc") for shift in (0, 32, 64, 96)
    ]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=np.float64)


def set_generator_state(rng: np.random.Generator, words: np.ndarray) -> None:
    """Inverse of `generator_state`."""
    numbers = [int(word) for word in words]
    state, increment = (sum(numbers[4 * k + i] << (32 * i) for i in range(4)) for k in range(2))
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": increment},
        "has_uint32": numbers[8],
        "uinteger": numbers[9],
    }


class GymnasiumTask(MujocoTaskEnv):
    """Base of the wrapped tasks. An episode of seed s is the episode of the published environment reset with seed s.

    A subclass defines `observe_state` from `self.seen`, the published observation [n], and says with `memory` what else
    the published environment remembers.
    viewpoint: (look-at x, y, z, distance, azimuth, elevation) of the camera "overview" in m and degrees.
    """

    viewpoint: tuple[float, float, float, float, float, float] = (0.0, 0.0, 0.0, 4.0, 90.0, -45.0)

    def __init__(
        self,
        task: TaskSpec,
        inner: Any,
        *,
        seen: int,
        observations: Mapping[str, dict[str, Any]],
        action: Mapping[str, Any],
        substeps: int,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        self.inner = inner
        self.seen, self.achieved = np.zeros(seen), False
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

    # The published environments observe kinematics from before the last physics step, so a restored state carries the
    # observation itself.

    def begin(self, rng: np.random.Generator) -> None:
        observation, info = self.inner.reset(seed=self.episode_seed)
        self.seen, self.achieved = self.flat(observation), self.solved(info)

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        observation, reward, terminated, _, info = self.inner.step(action)
        self.seen, self.achieved = self.flat(observation), self.solved(info)
        return float(reward), bool(terminated)

    def flat(self, observation: Any) -> np.ndarray:
        """The published observation as one vector, float64 [n]."""
        if isinstance(observation, dict):
            parts = [np.ravel(observation[key]) for key in ("observation", "achieved_goal", "desired_goal")]
            return np.concatenate(parts).astype(np.float64)
        return np.array(observation, dtype=np.float64)

    def solved(self, info: Mapping[str, Any]) -> bool:
        """Whether `info` of the published environment says that the task is achieved."""
        return bool(info.get("success", info.get("is_success", False)))

    def success(self) -> bool:
        return self.achieved

    def memory(self) -> np.ndarray:
        """What the published environment remembers besides physics and observation, float64 [n]."""
        return np.zeros(0)

    def set_memory(self, memory: np.ndarray) -> None:
        """Inverse of `memory`."""

    def extra_state(self) -> np.ndarray:
        return np.concatenate([[self.achieved], self.seen, self.memory()])

    def set_extra_state(self, extra: np.ndarray) -> None:
        self.achieved = bool(extra[0])
        self.seen = extra[1 : 1 + self.seen.size].copy()
        self.set_memory(extra[1 + self.seen.size :].copy())

    def render_camera(self, camera: str) -> Any:
        if camera != FREE_CAMERA:
            return camera
        view = mujoco.MjvCamera()
        *view.lookat[:], view.distance, view.azimuth, view.elevation = self.viewpoint
        return view

    def close(self) -> None:
        super().close()
        self.inner.close()
