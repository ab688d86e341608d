"""The base of every task's environment: Gymnasium plus contract, exact states and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from sim_envs.errors import SimEnvError, unknown
from sim_envs.spec import TaskSpec

Observation = dict[str, np.ndarray]


class TaskEnv(gymnasium.Env):
    """A task with a dictionary observation.

    A subclass sets `observation_space`, `action_space` and `available_cameras`, calls `super().__init__`, and defines
    the methods below that raise NotImplementedError. `reset` must start with `self.begin_episode(seed)`.
    info["success"] (bool) is set by every reset and step. `terminated` is True at success where the task ends there;
    `truncated` is True at the task's horizon.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    available_cameras: tuple[str, ...] = ()

    def __init__(
        self, task: TaskSpec, render_mode: str | None = None, render_size: tuple[int, int] = (256, 256)
    ):
        if render_mode not in (None, "rgb_array"):
            raise unknown("render_mode", str(render_mode), ["rgb_array"])
        self.task = task
        self.render_mode = render_mode
        self.render_size = render_size
        self.metadata = {**type(self).metadata, "render_fps": round(task.rate)}
        self.episode_seed = 0
        self.steps = 0

    def begin_episode(self, seed: int | None) -> np.random.Generator:
        """Start an episode: zero the step count and return the generator of everything random in it.

        With a seed the episode depends on that seed alone; without, the seed is drawn from the environment's own
        generator. `self.episode_seed` holds it either way.
        """
        super().reset(seed=seed)
        self.episode_seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        self.steps = 0
        return np.random.default_rng(self.episode_seed)

    def contract(self) -> dict[str, Any]:
        """Plain description of observations and action: shapes, units, frames, ranges, rate, action meaning."""
        raise NotImplementedError

    def success(self) -> bool:
        """Whether the task is achieved in the present state."""
        raise NotImplementedError

    def get_state(self) -> np.ndarray:
        """Everything that the continuation depends on, float64 [n]."""
        raise NotImplementedError

    def set_state(self, state: np.ndarray) -> Observation:
        """Restore a state of `get_state` exactly; returns its observation."""
        raise NotImplementedError

    def set_observation(self, observation: Observation) -> None:
        """Put the task into the state that an observation describes, as far as it says all that the next step depends on.

        What it leaves out (the forward position of a runner) is set to zero. Raises SimEnvError where observations of
        the task do not determine its state.
        """
        raise SimEnvError(
            f"the observations of task '{self.task.id}' do not determine its state; those of point mazes and of Hopper, "
            "HalfCheetah and Walker2d do"
        )

    def render_image(self, camera: str, height: int, width: int) -> np.ndarray:
        """Image of the present state, uint8 [height, width, 3], upright."""
        raise NotImplementedError

    def physics(self) -> tuple[Any, Any] | None:
        """The task's `mujoco.MjModel` and `MjData`, or None when it is not one MuJoCo model."""
        return None

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Image of the first camera when render_mode is "rgb_array"."""
        if self.render_mode is None:
            return None
        return self.render_image(self.available_cameras[0], *self.render_size)

    def check_camera(self, camera: str) -> None:
        """Raise SimEnvError unless the task has this camera."""
        if camera not in self.available_cameras:
            raise unknown(f"camera of task '{self.task.id}'", camera, self.available_cameras)

    def check_action(self, action: np.ndarray) -> np.ndarray:
        """The action as a float64 copy [dimension]; raises SimEnvError for a wrong shape or a value that is not finite."""
        value = np.array(action, dtype=np.float64)
        shape = self.action_space.shape
        if value.shape != shape:
            raise SimEnvError(f"task '{self.task.id}' takes an action of shape {shape}, got {value.shape}")
        if not np.isfinite(value).all():
            raise SimEnvError(f"action has values that are NaN or infinite: {value.tolist()}")
        return value


def space_of(contract: Mapping[str, Any]) -> tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box]:
    """Observation and action space of a plain contract."""
    spaces: dict[str, gymnasium.Space[Any]] = {
        key: _box(field) for key, field in contract["observations"].items()
    }
    return gymnasium.spaces.Dict(spaces), _box(contract["action"])


def _box(field: Mapping[str, Any]) -> gymnasium.spaces.Box:
    shape, dtype = tuple(field["shape"]), np.dtype(field.get("dtype", "float32"))
    if field.get("kind") == "image":
        return gymnasium.spaces.Box(0, 255, shape, np.uint8)
    bounds = [
        np.broadcast_to(
            np.asarray(default if field.get(name) is None else field[name], dtype), (int(np.prod(shape)),)
        )
        for name, default in (("low", -np.inf), ("high", np.inf))
    ]
    return gymnasium.spaces.Box(bounds[0].reshape(shape), bounds[1].reshape(shape), dtype=dtype.type)
