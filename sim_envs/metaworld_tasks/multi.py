"""MT10 and MT50: one environment whose episodes are drawn from several MetaWorld tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation, TaskEnv, space_of
from sim_envs.errors import SimEnvError, unknown
from sim_envs.metaworld_tasks.env import MetaWorld
from sim_envs.metaworld_tasks.expert import MetaWorldExpert
from sim_envs.registry import make, spec
from sim_envs.spec import TaskSpec


class MultiTask(TaskEnv):
    """Draws a member task from the episode's seed, or takes options={"member": name}.

    The observation is the member's plus "task_one_hot" [number of members]. Members are built when first drawn.
    """

    def __init__(
        self,
        task: TaskSpec,
        members: Sequence[str],
        terminate_on_success: bool = True,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        super().__init__(task, render_mode, render_size)
        self.members = tuple(members)
        self._options: dict[str, Any] = {
            "terminate_on_success": terminate_on_success,
            "cameras": cameras,
            "image_size": image_size,
        }
        self._built: dict[str, MetaWorld] = {}
        self.index = 0
        first = self.member
        self.available_cameras = first.available_cameras
        inner = first.contract()
        one_hot = fields.state(len(self.members), "1", "", low=0.0, high=1.0, names=self.members)
        self._contract = {
            **inner,
            "task": task.id,
            "observations": {**inner["observations"], "task_one_hot": one_hot},
        }
        self.observation_space, self.action_space = space_of(self._contract)

    @property
    def member(self) -> MetaWorld:
        """The environment of the present member task."""
        name = self.members[self.index]
        if name not in self._built:
            built = make(name, **self._options).unwrapped
            assert isinstance(built, MetaWorld)
            self._built[name] = built
        return self._built[name]

    def contract(self) -> dict[str, Any]:
        return self._contract

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict]:
        rng = self.begin_episode(seed)
        self.index = int(rng.integers(len(self.members)))
        wanted = (options or {}).get("member")
        if wanted is not None:
            if wanted not in self.members:
                raise unknown(f"member of task '{self.task.id}'", wanted, self.members)
            self.index = self.members.index(wanted)
        observation, info = self.member.reset(seed=self.episode_seed)
        return self._with_task(observation), {**info, "member": self.members[self.index]}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict]:
        observation, reward, terminated, truncated, info = self.member.step(action)
        self.steps = self.member.steps
        info = {**info, "member": self.members[self.index]}
        return self._with_task(observation), reward, terminated, truncated, info

    def physics(self) -> tuple[Any, Any]:
        """Model and data of the present member."""
        return self.member.physics()

    def success(self) -> bool:
        return self.member.success()

    def get_state(self) -> np.ndarray:
        return np.concatenate([[self.index], self.member.get_state()])

    def set_state(self, state: np.ndarray) -> Observation:
        index = int(state[0])
        if not 0 <= index < len(self.members):
            raise SimEnvError(f"state of task '{self.task.id}' names member {index} of {len(self.members)}")
        self.index = index
        observation = self._with_task(self.member.set_state(state[1:]))
        self.steps = self.member.steps
        return observation

    def render_image(self, camera: str, height: int, width: int) -> np.ndarray:
        return self.member.render_image(camera, height, width)

    def close(self) -> None:
        for member in self._built.values():
            member.close()

    def _with_task(self, observation: Observation) -> Observation:
        one_hot = np.zeros(len(self.members), np.float32)
        one_hot[self.index] = 1.0
        return {**observation, "task_one_hot": one_hot}


class MultiTaskExpert:
    """The expert of whichever member the episode has drawn."""

    version = MetaWorldExpert.version

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.seed, self.quality = seed, quality
        self.experts: dict[str, MetaWorldExpert] = {}
        self.mode = ""

    def reset(self, env: Any) -> None:
        """Draw the member expert's strategy."""
        base: MultiTask = env.unwrapped
        name = base.members[base.index]
        if name not in self.experts:
            self.experts[name] = MetaWorldExpert(self.seed, self.quality, spec(name))
        self.present = self.experts[name]
        self.present.reset(base.member)
        self.mode = self.present.mode

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """The member expert's action, float32 [4]."""
        return self.present.act(env.unwrapped.member, observation)
