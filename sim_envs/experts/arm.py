"""Base of the scripted experts that lead one arm by the pose of its tool, through joint velocities."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_envs.env import Observation
from sim_envs.errors import SimEnvError
from sim_envs.experts.base import Noise, quality_named
from sim_envs.experts.script import Goal, Script, Target, limit_norm, rotation_error
from sim_envs.spec import TaskSpec


class ArmExpert:
    """A script of goals with feedback: it reads the state, yields where the tool should be heading, and is resumed after
    the control step. The proportional law is `gain` times the error in position and rotation, cut to the arm's pace.

    A subclass sets the constants and defines `pose`, `command`, `draw` and `script`.
    """

    version = "1"
    gain: float = 4.0  # 1/s
    fastest: float = 0.3  # m/s of the tool
    fastest_turn: float = 1.0  # rad/s
    shake: float = 0.04  # noise at expert level, share of the fastest motion

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.level = quality_named(quality)
        self.task = task
        self.mode = ""
        self.observation: Observation = {}
        self._script: Script | None = None

    def reset(self, env: Any) -> None:
        """Draw a strategy for the episode that `env` has just begun."""
        self.env = env.unwrapped
        self.observation = self.env.observe()
        self.pace = self.level.speed * float(self.rng.uniform(0.8, 1.0))
        self.mistake = bool(self.rng.random() < self.level.mistakes)
        self._noise = Noise(self.rng, np.full(6, self.shake * self.level.noise))
        self.mode = self.draw()
        self._script = self.script()

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """The action for the present state, float32 [action dimension]."""
        if self._script is None:
            raise SimEnvError("the expert must be reset before it acts")
        self.observation = observation
        return np.asarray(self.command(next(self._script)), np.float32)

    # What a task defines -------------------------------------------------------------------------------------------

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Present position [3] m and rotation [3, 3] of the tool in the world frame."""
        raise NotImplementedError

    def command(self, goal: Goal) -> np.ndarray:
        """The action that heads for `goal`."""
        raise NotImplementedError

    def draw(self) -> str:
        """Draw this episode's strategy; returns its name."""
        raise NotImplementedError

    def script(self) -> Script:
        """Yield a goal at every control step, without end."""
        raise NotImplementedError

    # Words of a script ---------------------------------------------------------------------------------------------

    def twist(self, goal: Goal) -> np.ndarray:
        """Velocity [6] of the tool (m/s, rad/s) that heads for `goal`, with this episode's pace and noise."""
        position, rotation = self.pose()
        pace = self.pace * goal.pace
        noise = goal.quiet * self._noise.step()
        move = limit_norm(self.gain * (goal.position - position), self.fastest * pace)
        turn = limit_norm(self.gain * rotation_error(goal.rotation, rotation), self.fastest_turn * pace)
        return np.concatenate([move + self.fastest * noise[:3], turn + self.fastest_turn * noise[3:]])

    def offset(self, scale: float) -> np.ndarray:
        """A horizontal error [3] with standard deviation `scale` m at expert level, at most 2.5 times that."""
        draw = np.clip(self.rng.standard_normal(2), -2.5, 2.5) * scale * self.level.offset
        return np.array([*draw, 0.0])

    def go(
        self,
        target: Target,
        rotation: np.ndarray,
        grip: float,
        *,
        within: float = 0.01,
        turn_within: float = 0.2,
        pace: float = 1.0,
        quiet: float = 1.0,
        limit: int = 80,
    ) -> Script:
        """Head for `target()` until the tool is `within` m and `turn_within` rad of it, or `limit` steps passed."""
        for _ in range(limit):
            goal = Goal(target(), rotation, grip, pace, quiet)
            position, present = self.pose()
            turn = float(np.linalg.norm(rotation_error(rotation, present)))
            if np.linalg.norm(goal.position - position) < within and turn < turn_within:
                return
            yield goal

    def hold(self, grip: float, steps: int, quiet: float = 0.3) -> Script:
        """Stay for a number of steps."""
        position, rotation = self.pose()
        for _ in range(steps):
            yield Goal(position, rotation, grip, quiet=quiet)

    def stay(self, grip: float) -> Script:
        """Stay for ever: the end of a script."""
        position, rotation = self.pose()
        while True:
            yield Goal(position, rotation, grip, quiet=0.3)
