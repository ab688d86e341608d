"""dm_control environments as tasks of this registry."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation
from sim_envs.mujoco_env import MujocoTaskEnv
from sim_envs.spec import TaskSpec

SUCCESS_REWARD = 0.9
_DRAWN = (
    "body_pos",
    "body_quat",
    "geom_pos",
    "geom_quat",
    "geom_size",
    "site_pos",
    "site_quat",
    "light_pos",
    "wrap_prm",
    "qpos0",
)
"""Arrays of the model that tasks change when an episode begins."""


class DmControl(MujocoTaskEnv):
    """What both kinds share: flat float32 observations in SI units, reward in [0, 1], the time limit of the task.

    The actions keep dm_control's own ranges. Episodes end by the time limit, or where the task itself ends them.
    """

    def __init__(self, task: TaskSpec, inner: Any, **options: Any):
        self.inner = inner
        physics = inner.physics
        self.shapes = {key: int(np.prod(spec.shape)) for key, spec in inner.observation_spec().items()}
        self.seen, self.reward = np.zeros(sum(self.shapes.values())), 0.0
        spec = inner.action_spec()
        low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
        model = physics.model.ptr
        names = [model.actuator(i).name.split("/")[-1] for i in range(model.nu)]
        self.available_cameras = tuple(model.camera(i).name for i in range(model.ncam))
        super().__init__(
            task,
            model,
            physics.data.ptr,
            observations={_key(key): fields.state(size, "SI") for key, size in self.shapes.items()},
            action=fields.action(
                spec.shape[0],
                unit="actuator",
                low=low,
                high=high,
                space="joint",
                controller="actuators",
                frame="joint",
                names=names if len(set(names)) == spec.shape[0] and all(names) else (),
            ),
            substeps=round(inner.control_timestep() / physics.timestep()),
            **options,
        )

    def seed_episode(self) -> None:
        """Make the next reset depend on `self.episode_seed` alone."""
        raise NotImplementedError

    def begin(self, rng: np.random.Generator) -> None:
        self.seed_episode()
        self._take(self.inner.reset())

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        step = self.inner.step(action)
        self._take(step)
        return self.reward, bool(step.last() and step.discount == 0.0)

    def _take(self, step: Any) -> None:
        self.seen = np.concatenate([np.ravel(value) for value in step.observation.values()]).astype(
            np.float64
        )
        self.reward = float(step.reward or 0.0)

    def observe_state(self) -> Observation:
        ends = np.cumsum(list(self.shapes.values()))[:-1]
        return {_key(k): v for k, v in zip(self.shapes, np.split(self.seen, ends), strict=True)}

    def success(self) -> bool:
        return self.reward >= SUCCESS_REWARD

    def extra_state(self) -> np.ndarray:
        drawn = [getattr(self.model, name).ravel() for name in _DRAWN]
        remembered = [float(getattr(self.inner.task, name)) for name in self._numbers()]
        return np.concatenate([[self.reward], self.seen, *drawn, remembered])

    def _numbers(self) -> list[str]:
        """Attributes that a task sets when an episode begins (the height to lift to)."""
        return sorted(
            name for name, value in vars(self.inner.task).items() if isinstance(value, (float, np.floating))
        )

    def set_extra_state(self, extra: np.ndarray) -> None:
        self.reward, self.seen = float(extra[0]), extra[1 : 1 + self.seen.size].copy()
        at = 1 + self.seen.size
        for name in _DRAWN:
            array = getattr(self.model, name)
            array[:] = extra[at : at + array.size].reshape(array.shape)
            at += array.size
        for name, value in zip(self._numbers(), extra[at:], strict=True):
            setattr(self.inner.task, name, float(value))
        self.inner._reset_next_step = False  # the restored episode goes on, also in a new environment


class Suite(DmControl):
    """A task of the dm_control suite."""

    def __init__(
        self,
        task: TaskSpec,
        domain: str,
        name: str,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        inner = _import("suite").load(domain, name, task_kwargs={"random": 0, "time_limit": float("inf")})
        images = {"cameras": cameras, "image_size": image_size}
        super().__init__(task, inner, **images, render_mode=render_mode, render_size=render_size)

    def seed_episode(self) -> None:
        self.inner.task.random.seed(self.episode_seed)


class Manipulation(DmControl):
    """A task of the Jaco arm, with observations of its features."""

    def __init__(
        self,
        task: TaskSpec,
        name: str,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        inner = _import("manipulation").load(name, seed=0)
        inner._time_limit = float("inf")  # the time limit is counted here
        images = {"cameras": cameras, "image_size": image_size}
        super().__init__(task, inner, **images, render_mode=render_mode, render_size=render_size)

    def seed_episode(self) -> None:
        self.inner.random_state.seed(self.episode_seed)

    def begin(self, rng: np.random.Generator) -> None:
        super().begin(rng)
        physics = self.inner.physics
        if physics.model.ptr is not self.model:  # the scene is compiled anew for an episode
            self.close()
            self.model, self.data = physics.model.ptr, physics.data.ptr


def _import(name: str) -> Any:
    """dm_control.<name>, without GLFW's warning that there is no display."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"dm_control.{name}")


def _key(name: str) -> str:
    return name.replace("jaco_arm/", "").replace("/", "_")
