"""The base of every task that is one MuJoCo model: exact states, time limit, images from the model's cameras."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from sim_envs import fields
from sim_envs.env import Observation, TaskEnv, space_of
from sim_envs.errors import SimEnvError
from sim_envs.spec import TaskSpec

if TYPE_CHECKING:
    from sim_envs.rendering import Renderer


class MujocoTaskEnv(TaskEnv):
    """A task on a `mujoco.MjModel` and its `MjData`.

    A subclass builds model, data and its state fields, calls `super().__init__`, and defines `observe_state`,
    `success`, `begin` (randomise the start) and `advance` (apply one action).
    """

    substeps: int
    """Physics steps in one control step."""

    def __init__(
        self,
        task: TaskSpec,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        *,
        observations: Mapping[str, dict[str, Any]],
        action: Mapping[str, Any],
        substeps: int,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        super().__init__(task, render_mode, render_size)
        self.model, self.data, self.substeps = model, data, substeps
        self.cameras, self.image_size = tuple(cameras), image_size
        for camera in self.cameras:
            self.check_camera(camera)
        images = {f"{camera}_image": fields.image(*image_size, camera) for camera in self.cameras}
        sizes = {camera: {"height": image_size[0], "width": image_size[1]} for camera in self.cameras}
        self._contract = fields.contract(task.id, self.rate, {**observations, **images}, action, **sizes)
        self.observation_space, self.action_space = space_of(self._contract)
        self._lowest = self.action_space.low.astype(np.float64)  # type: ignore[attr-defined]
        self._highest = self.action_space.high.astype(np.float64)  # type: ignore[attr-defined]
        self._renderer: Renderer | None = None

    @property
    def rate(self) -> float:
        """Control rate in Hz: 1 / (physics time step * substeps)."""
        return round(1.0 / (self.model.opt.timestep * self.substeps), 6)

    def physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Model and data of the task."""
        return self.model, self.data

    # What a task defines -------------------------------------------------------------------------------------------

    def begin(self, rng: np.random.Generator) -> None:
        """Put the model into the start of an episode; everything random comes from `rng`."""
        raise NotImplementedError

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        """Apply one action and simulate one control step. Returns (reward, terminated)."""
        raise NotImplementedError

    def observe_state(self) -> Observation:
        """The state entries of the observation."""
        raise NotImplementedError

    def extra_state(self) -> np.ndarray:
        """What the task remembers besides the physics and the step count (goal, stage), float64 [n]."""
        return np.zeros(0)

    def set_extra_state(self, extra: np.ndarray) -> None:
        """Inverse of `extra_state`."""

    def episode_info(self) -> dict[str, Any]:
        """More entries of `info` than success."""
        return {}

    # Gymnasium -----------------------------------------------------------------------------------------------------

    def contract(self) -> dict[str, Any]:
        return self._contract

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict]:
        """Start an episode; with a seed it depends on that seed alone."""
        self.begin(self.begin_episode(seed))
        return self.observe(), {"success": self.success(), **self.episode_info()}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict]:
        """One control step. Actions outside the range are clipped to it; NaN or a wrong shape raises SimEnvError."""
        value = self.check_action(action)
        value = np.minimum(np.maximum(value, self._lowest), self._highest)
        reward, terminated = self.advance(value)
        self.steps += 1
        truncated = self.steps >= self.task.horizon and not terminated
        info = {"success": self.success(), **self.episode_info()}
        return self.observe(), float(reward), bool(terminated), truncated, info

    def observe(self) -> Observation:
        """State entries and one image for each camera."""
        observation = {
            key: np.asarray(value, dtype=np.float32) for key, value in self.observe_state().items()
        }
        for camera in self.cameras:
            observation[f"{camera}_image"] = self.render_image(camera, *self.image_size)
        return observation

    # States --------------------------------------------------------------------------------------------------------

    def get_state(self) -> np.ndarray:
        """Step count, physics (mjSTATE_INTEGRATION) and what the task remembers: float64 [n]."""
        signature = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(self.model, signature))
        mujoco.mj_getState(self.model, self.data, physics, signature)
        return np.concatenate([[self.steps], physics, self.extra_state()])

    def set_state(self, state: np.ndarray) -> Observation:
        """Restore a state of `get_state`; what follows is bit-identical. Raises SimEnvError for a wrong size."""
        signature = mujoco.mjtState.mjSTATE_INTEGRATION
        size = mujoco.mj_stateSize(self.model, signature)
        state = np.asarray(state, dtype=np.float64)
        expected = 1 + size + self.extra_state().size
        if state.shape != (expected,):
            raise SimEnvError(f"state of task '{self.task.id}' has shape ({expected},), got {state.shape}")
        self.steps = int(state[0])
        physics = np.ascontiguousarray(state[1 : 1 + size])
        self.set_extra_state(state[1 + size :].copy())
        mujoco.mj_setState(self.model, self.data, physics, signature)
        mujoco.mj_forward(self.model, self.data)
        # The solver in mj_forward has moved the warm start; the next step must begin from the saved one.
        mujoco.mj_setState(self.model, self.data, physics, signature)
        return self.observe()

    def set_kinematics(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Set qpos and qvel, forget the solver's warm start and compute what follows from them."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = positions, velocities
        mujoco.mj_forward(self.model, self.data)

    # Images --------------------------------------------------------------------------------------------------------

    def render_camera(self, camera: str) -> str | mujoco.MjvCamera:
        """What the renderer takes for this camera: its name in the model, or a free camera."""
        return camera

    def render_image(self, camera: str, height: int, width: int) -> np.ndarray:
        self.check_camera(camera)
        if self._renderer is None:
            from sim_envs.rendering import Renderer

            self._renderer = Renderer(self.model, sites=True)
            weakref.finalize(self, self._renderer.close)  # before the interpreter unloads OpenGL
        return self._renderer.render(self.data, self.render_camera(camera), height, width)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
