"""An environment that goes on from step to step while its agent learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffbot.data.replay import ReplayBuffer
from diffbot.errors import ContractError


@dataclass(frozen=True)
class EndedEpisode:
    """An episode of exploration. reward: undiscounted sum. success: whether info["success"] was ever True."""

    reward: float
    steps: int
    success: bool


class Explorer:
    """Steps one environment, writes what happens into a replay buffer and begins the next episode where one has ended.

    env: gymnasium conventions with dictionary observations; `get_state` and `set_state` of the unwrapped one continue an
    episode exactly. Episode n starts from a seed that `seed` and n decide.
    """

    def __init__(self, env: Any, buffer: ReplayBuffer, seed: int) -> None:
        self.env, self.buffer, self.seed = env, buffer, seed
        self.episode = -1
        self._begin()

    def _begin(self) -> None:
        self.episode += 1
        words = np.random.SeedSequence([self.seed, self.episode]).generate_state(1, np.uint32)
        self.observation, info = self.env.reset(seed=int(words[0]) >> 1)
        self.reward, self.steps, self.success = 0.0, 0, bool(info.get("success", False))

    def step(self, action: np.ndarray) -> EndedEpisode | None:
        """Take one step. Returns the episode that ended with it, if one did."""
        following, reward, terminated, truncated, info = self.env.step(action)
        self.buffer.add(self.observation, action, float(reward), following, bool(terminated))
        self.observation = following
        self.reward += float(reward)
        self.steps += 1
        self.success |= bool(info.get("success", False))
        if not (terminated or truncated):
            return None
        ended = EndedEpisode(self.reward, self.steps, self.success)
        self._begin()
        return ended

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on, the simulator's state included; the buffer has its own."""
        return {
            "episode": self.episode,
            "simulator": np.asarray(self.env.unwrapped.get_state(), np.float64),
            "reward": self.reward,
            "steps": self.steps,
            "success": self.success,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.episode = int(state["episode"]) - 1
        self._begin()  # what an environment draws for an episode that its state does not hold
        self.observation = self.env.unwrapped.set_state(np.asarray(state["simulator"]))
        self.reward, self.steps = float(state["reward"]), int(state["steps"])
        self.success = bool(state["success"])


def action_range(contract: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest action of a contract. Raises ContractError where a bound is missing or not finite."""
    action = contract.action
    if action.low is None or action.high is None or not np.isfinite([*action.low, *action.high]).all():
        raise ContractError(
            f"an agent explores within the range of its actions, but the contract of '{contract.task}' gives "
            f"low={action.low} and high={action.high}"
        )
    low, high = (
        np.broadcast_to(np.asarray(bound, np.float64).reshape(-1), (action.size,)).reshape(action.shape)
        for bound in (action.low, action.high)
    )
    return low, high
