"""One-step tasks in the plane: draw a point of a distribution, or find a bandit's best mode.

The bandit is after Wang et al., "Diffusion Policies as an Expressive Policy Class for Offline RL", ICLR 2023, section
5: the behaviour data is a mixture of Gaussians whose modes pay differently, so that imitation finds every mode and
reinforcement learning must find the best one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_envs import fields
from sim_envs.env import Observation, TaskEnv, space_of
from sim_envs.errors import SimEnvError
from sim_envs.experts import quality_named
from sim_envs.spec import TaskSpec
from sim_envs.toy.distributions import Distribution, distribution

REWARD_NOISE = 0.5


def mode_rewards(shape: Distribution) -> np.ndarray:
    """Mean reward [K] of each mode of a mixture, 0 to 3 in an order that does not follow the plane; one is best."""
    order = np.random.default_rng(7).permutation(len(shape.support))
    return 3.0 * order / (len(shape.support) - 1)


class Toy(TaskEnv):
    """Observation: "constant" [1], always 0. Action: a point [2] in [-1, 1]^2. Every episode is one step.

    Reward of a distribution: 1 within 3 sigma of its support, else 0. Reward of a bandit: the mean of the nearest mode
    when within 3 sigma of it, plus noise N(0, 0.5^2); elsewhere 0 plus that noise. info["mode"]: index of the nearest mode of a mixture.
    """

    available_cameras = ("plane",)

    def __init__(
        self,
        task: TaskSpec,
        shape: str,
        bandit: bool = False,
        render_mode: str | None = None,
        render_size: tuple[int, int] = (256, 256),
    ):
        super().__init__(task, render_mode, render_size)
        self.shape, self.bandit = distribution(shape), bandit
        self.rewards = mode_rewards(self.shape) if bandit else None
        observation = {"constant": fields.state(1, "1", "", low=0.0, high=0.0)}
        act = fields.action(2, unit="1", space="cartesian", frame="plane", names=("x", "y"))
        self._contract = fields.contract(task.id, task.rate, observation, act)
        self.observation_space, self.action_space = space_of(self._contract)
        self.point: np.ndarray | None = None
        self._noise = 0.0

    def contract(self) -> dict[str, Any]:
        return self._contract

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict]:
        self._noise = float(self.begin_episode(seed).normal(0.0, REWARD_NOISE))
        self.point = None
        return self._observation(), {"success": False}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict]:
        """One draw, which ends the episode. Points outside the square are clipped to it."""
        self.point = np.clip(self.check_action(action), -1.0, 1.0)
        self.steps += 1
        info = {"success": self.success()}
        if self.rewards is None:
            return self._observation(), float(info["success"]), True, False, info
        mode = int(np.linalg.norm(self.shape.support - self.point, axis=1).argmin())
        near = self.shape.distance(self.point) <= 3 * self.shape.noise
        reward = (float(self.rewards[mode]) if near else 0.0) + self._noise
        return self._observation(), reward, True, False, {**info, "mode": mode}

    def success(self) -> bool:
        if self.point is None:
            return False
        support = self.shape.support if self.rewards is None else self.shape.support[[self.rewards.argmax()]]
        spread = self.shape.noise if self.shape.name != "chequerboard" else 0.025
        return bool(np.linalg.norm(support - self.point, axis=1).min() <= 3 * spread)

    def get_state(self) -> np.ndarray:
        point = np.zeros(2) if self.point is None else self.point
        return np.array([self.steps, self._noise, self.point is not None, *point])

    def set_state(self, state: np.ndarray) -> Observation:
        state = np.asarray(state, dtype=np.float64)
        if state.shape != (5,):
            raise SimEnvError(f"state of task '{self.task.id}' has shape (5,), got {state.shape}")
        self.steps, self._noise = int(state[0]), float(state[1])
        self.point = state[3:].copy() if state[2] else None
        return self._observation()

    def render_image(self, camera: str, height: int, width: int) -> np.ndarray:
        """The distribution in grey and the last point in red, y up."""
        self.check_camera(camera)
        points, _ = self.shape.sample(np.random.default_rng(0), 20000)
        counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], (height, width), [[-1, 1], [-1, 1]])
        grey = 255 - np.clip(counts * 255 * height * width / 2e6, 0, 200)
        image = np.repeat(grey[::-1, :, None], 3, axis=2).astype(np.uint8)
        if self.point is not None:
            row, column = (1 - self.point[1]) / 2 * (height - 1), (self.point[0] + 1) / 2 * (width - 1)
            rows, columns = np.ogrid[:height, :width]
            image[(rows - row) ** 2 + (columns - column) ** 2 <= (height / 60) ** 2] = (220, 30, 30)
        return image

    def _observation(self) -> Observation:
        return {"constant": np.zeros(1, np.float32)}


class ToyExpert:
    """Draws from the distribution itself; worse qualities have wider noise. `mode` names the mode it drew from.

    For a bandit "expert" draws from the best mode alone; the other qualities draw from all of them.
    """

    version = "1"

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        self.mode = ""

    def reset(self, env: Any) -> None:
        """Draw the point."""
        base: Toy = env.unwrapped
        points, labels = base.shape.sample(self.rng, 1)
        point, label = points[0], int(labels[0])
        if base.rewards is not None and self.quality.name == "expert":
            label = int(base.rewards.argmax())
            point = base.shape.support[label] + base.shape.noise * self.rng.standard_normal(2)
        extra = base.shape.noise * np.sqrt(self.quality.noise**2 - 1.0)
        self.point = point + extra * self.rng.standard_normal(2)
        self.mode = f"mode {label}"

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """The point, float32 [2]."""
        return np.clip(self.point, -1.0, 1.0).astype(np.float32)
