"""The scene of a simulated task in the live view: the simulator's states, shown in a model of our own."""

from __future__ import annotations

from typing import Any

import numpy as np

import sim_envs
from diffbot.errors import ConfigError
from sim_envs.errors import SimEnvError
from sim_envs.scene import MujocoScene


class Scene:
    """One task's scene on a viser server. Set `latest` to a state of the simulator and call `draw`.

    Raises ConfigError for a task that is not one of sim_envs, or that has no scene.
    """

    def __init__(self, server: Any, task: str) -> None:
        try:
            env: Any = sim_envs.make(task)
        except SimEnvError as error:
            raise ConfigError(f"scene:=true shows simulated tasks. {error}") from error
        self.env = env
        if env.unwrapped.physics() is None:
            raise ConfigError(f"the task '{task}' has no scene to show")
        self.latest: np.ndarray | None = None
        self._server = server
        self._scene: MujocoScene | None = None
        self._shown: np.ndarray | None = None

    def draw(self, episode: int | None) -> str:
        """Show the latest state; returns what is wrong with it, or "". The first one builds the scene of `episode`."""
        if self.latest is None or self.latest is self._shown:
            return ""
        if self._scene is None:
            self.env.reset(seed=episode if episode is not None and episode >= 0 else None)
            self._scene = MujocoScene(self._server, self.env.unwrapped.physics()[0])
        self._shown = self.latest
        try:
            self.env.unwrapped.set_state(self.latest)
        except (SimEnvError, ValueError) as error:
            return f"the simulator's state does not fit the task: {error}"
        self._scene.update(self.env.unwrapped.physics()[1])
        return ""

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
