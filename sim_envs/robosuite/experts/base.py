"""Scripts of gripper targets with feedback, strategy drawn at reset, and correlated noise.

A script is a generator: it reads the simulation, yields where each gripper should be heading, and is resumed after the
control step. The proportional law is position `k (target - eef)` and rotation `log(R_target R_eef^T)`, both cut to what
one control step can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.errors import SimEnvError
from sim_envs.experts.base import Noise, quality_named
from sim_envs.robosuite.actions import ROTATION, TRANSLATION, Twist
from sim_envs.robosuite.env import RobosuiteEnv
from sim_envs.robosuite.observations import eef_pose

OPEN, CLOSE = -1.0, 1.0
GAIN = 2.0  # proportional gain: displacement commanded for each metre of error
DOWN = np.diag([1.0, -1.0, -1.0])  # gripper pointing down, fingers opening along y


@dataclass
class Goal:
    """Where one gripper should be heading.

    position [3] m and rotation [3, 3] in the world frame; pace in (0, 1] scales the largest step;
    quiet in [0, 1] scales the noise (0 where precision decides).
    """

    position: np.ndarray
    rotation: np.ndarray
    grip: float
    pace: float = 1.0
    quiet: float = 1.0


Script = Iterator[tuple[Goal, ...]]
Target = Callable[[], np.ndarray]


class ScriptedExpert:
    """Base of the robosuite experts: subclasses draw a strategy and write the script."""

    version = "1"

    def __init__(self, seed: int, quality: str = "expert"):
        self.rng = np.random.default_rng(seed)
        self.level = quality_named(quality)
        self.mode = ""
        self._script: Script | None = None
        self._noise: list[Noise] = []

    def reset(self, env: Any) -> None:
        """Draw a strategy for the episode that `env` has just begun."""
        self.env: RobosuiteEnv = env.unwrapped
        self.raw = self.env.raw
        arms = len(self.raw.robots)
        scale = self.level.noise * np.array([0.06] * 3 + [0.03] * 3)  # in units of one step's largest command
        self._noise = [Noise(self.rng, scale) for _ in range(arms)]
        self.pace = self.level.speed * self.rng.uniform(0.7, 1.0)
        self.mistake = bool(self.rng.random() < self.level.mistakes)
        self.mode = self.draw()
        self._script = self.script()

    def act(self, env: Any, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The action for the present state, float32 [action dimension]."""
        if self._script is None:
            raise SimEnvError("the expert must be reset before it acts")
        goals = next(self._script)
        return self.env.encode(*(self._twist(i, goal) for i, goal in enumerate(goals)))

    def draw(self) -> str:
        """Draw this episode's strategy; returns its name."""
        raise NotImplementedError

    def script(self) -> Script:
        """Yield one Goal for each arm at every control step, without end."""
        raise NotImplementedError

    def eef(self, arm: int = 0) -> np.ndarray:
        """Present position [3] of a gripper."""
        return eef_pose(self.raw, arm)[0]

    def eef_rotation(self, arm: int = 0) -> np.ndarray:
        """Present rotation [3, 3] of a gripper."""
        return eef_pose(self.raw, arm)[1]

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
        turn_within: float = 0.15,
        pace: float = 1.0,
        quiet: float = 1.0,
        limit: int = 80,
    ) -> Script:
        """Head for `target()` until the gripper is `within` m and `turn_within` rad of it, or `limit` steps passed."""
        for _ in range(limit):
            goal = Goal(target(), rotation, grip, pace, quiet)
            position, present = eef_pose(self.raw)
            turn = np.linalg.norm(Rotation.from_matrix(rotation @ present.T).as_rotvec())
            if np.linalg.norm(goal.position - position) < within and turn < turn_within:
                return
            yield (goal,)

    def bring(self, held: Target, goal: np.ndarray) -> Target:
        """The gripper target that puts a held thing, now at `held()`, at `goal` [3]."""
        return lambda: self.eef() + goal - held()

    def hold(self, rotation: np.ndarray, grip: float, steps: int) -> Script:
        """Stay where the gripper is for a number of steps (opening and closing take about eight)."""
        position = self.eef()
        for _ in range(steps):
            yield (Goal(position, rotation, grip, quiet=0.3),)

    def stay(self, grip: float) -> Script:
        """Stay for ever: the end of a script."""
        position, rotation = eef_pose(self.raw)
        while True:
            yield (Goal(position, rotation, grip, quiet=0.5),)

    def _twist(self, arm: int, goal: Goal) -> Twist:
        position, rotation = eef_pose(self.raw, arm)
        noise = self._noise[arm].step() * goal.quiet
        pace = self.pace * goal.pace
        move = limit_norm(GAIN * (goal.position - position), TRANSLATION * pace)
        turn = limit_norm(Rotation.from_matrix(goal.rotation @ rotation.T).as_rotvec(), ROTATION * pace)
        return Twist(move + TRANSLATION * noise[:3], turn + ROTATION * noise[3:], goal.grip)


def at(point: np.ndarray) -> Target:
    """A target that stays at `point` [3]."""
    return lambda: point


def near(where: Target, offset: np.ndarray) -> Target:
    """A target at an offset [3] from something that may move."""
    return lambda: where() + offset


def limit_norm(vector: np.ndarray, largest: float) -> np.ndarray:
    """The vector, shortened to norm `largest` when it is longer."""
    norm = float(np.linalg.norm(vector))
    return vector if norm <= largest else vector * (largest / norm)


def yawed(yaw: float) -> np.ndarray:
    """Rotation [3, 3] of a gripper that points down, turned by `yaw` rad about the vertical."""
    return Rotation.from_euler("z", yaw).as_matrix() @ DOWN


def nearest_yaw(yaw: float, present: np.ndarray, symmetry: float) -> float:
    """The yaw equal to `yaw` modulo `symmetry` rad that is nearest to the gripper rotation `present` [3, 3]."""
    now = np.arctan2((present @ DOWN.T)[1, 0], (present @ DOWN.T)[0, 0])
    return float(now + (yaw - now + symmetry / 2) % symmetry - symmetry / 2)


def body_yaw(raw: Any, body: str) -> float:
    """Yaw (rad) of a body about the vertical."""
    matrix = np.array(raw.sim.data.body_xmat[raw.sim.model.body_name2id(body)]).reshape(3, 3)
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))
