"""Rewards of a dataset before anything is learned from them: what is wrong with them, and their scale."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.windows import Windows
from diffbot.errors import DataError

log = logging.getLogger(__name__)

REWARDS = ("none", "minus_one", "return_range", "standardise")
LEAST_EPISODES = 2
LEAST_TRANSITIONS = 64
LARGE_VALUE = 2000.0  # bound of |Q| from which networks of unit scale learn slowly
CHUNK = 65536


@dataclass(frozen=True)
class RewardScale:
    """r -> r * scale + shift. largest: of |r| after it, over the data."""

    scale: float = 1.0
    shift: float = 0.0
    largest: float = 1.0

    def __call__(self, reward: Tensor) -> Tensor:
        return reward * self.scale + self.shift


def inspect_transitions(windows: Windows, kind: str, discount: float) -> RewardScale:
    """Check all transitions and choose the scale of the rewards.

    kind: "none"; "minus_one" (r - 1, so that a sparse 0/1 reward asks for haste: IQL's and IDQL's AntMaze); "return_range"
    (r * 1000 / (best - worst episode return): IQL's locomotion, App. C); "standardise" (mean 0, deviation 1).
    Raises DataError for too few episodes, values that are not finite, constant rewards, or actions outside the contract's
    range. Rewards whose values would be large are reported in the log.
    """
    name = windows.store.path.name
    episodes = np.unique(windows.table.episode)
    if len(episodes) < LEAST_EPISODES or len(windows) < LEAST_TRANSITIONS:
        raise DataError(
            f"'{name}' gives {len(windows)} transitions of {len(episodes)} episodes; offline reinforcement needs at least "
            f"{LEAST_TRANSITIONS} of {LEAST_EPISODES}. Record more: diffbot collect episodes=..."
        )
    rewards = np.concatenate([_checked(windows, start, name) for start in range(0, len(windows), CHUNK)])
    low, high = float(rewards.min()), float(rewards.max())
    if high - low <= 1e-8 * max(1.0, abs(high)):
        raise DataError(
            f"every reward of '{name}' is {high:g}: no action is better than another. Record episodes that differ in "
            "success (diffbot collect quality=okay keep_failures=true) or use a method that imitates (method=bc_mlp)"
        )
    scale, shift = _scale(windows, rewards, kind, name)
    largest = max(abs(low * scale + shift), abs(high * scale + shift))
    bound = largest / (1.0 - discount)
    log.info(
        "rewards %.4g to %.4g, scaled by %.4g and shifted by %.4g: |Q| <= %.4g",
        low,
        high,
        scale,
        shift,
        bound,
    )
    if bound > LARGE_VALUE:
        log.warning(
            "the rewards of '%s' reach %.4g, so |Q| may reach %.4g, which the networks learn slowly. Normalise them: "
            "method.reward=return_range",
            name,
            largest,
            bound,
        )
    return RewardScale(scale, shift, largest)


def _checked(windows: Windows, start: int, name: str) -> np.ndarray:
    """Rewards of some transitions, after all their values have been looked at."""
    batch = windows.gather(np.arange(start, min(start + CHUNK, len(windows)), dtype=np.int64))
    for key, value in batch.tensors():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value.flatten(1))).any(1).nonzero()[0])
            episode = int(windows.table.episode[start + bad])
            raise DataError(
                f"'{key}' of '{name}' is not finite in episode {episode}. See: diffbot data check; leave the episode out"
            )
    _check_actions(windows, batch, start, name)
    assert batch.rewards is not None
    return batch.rewards[:, 0].numpy().astype(np.float64)


def _check_actions(windows: Windows, batch: Batch, start: int, name: str) -> None:
    action = windows.store.contract.action
    slack = 1e-4
    for bound, sign in ((action.low, -1.0), (action.high, 1.0)):
        if bound is None:
            continue
        limit = torch.tensor(bound, dtype=torch.float32).expand(action.size).reshape(action.shape)
        beyond = (batch.actions[:, 0] - limit) * sign > slack * limit.abs().clamp_min(1.0)
        if bool(beyond.any()):
            row, entry = (int(i) for i in beyond.flatten(1).nonzero()[0])
            value = float(batch.actions[row, 0].flatten()[entry])
            label = action.names[entry] if action.names else str(entry)
            side = "below" if sign < 0 else "above"
            raise DataError(
                f"action '{label}' of '{name}' is {value:.4g} in episode {int(windows.table.episode[start + row])}, {side} "
                f"the contract's {float(limit.flatten()[entry]):.4g}: the critic would learn of actions that cannot be "
                "taken. Import the data with its true ranges, or clip it to them"
            )


def _scale(windows: Windows, rewards: np.ndarray, kind: str, name: str) -> tuple[float, float]:
    if kind == "minus_one":
        return 1.0, -1.0
    if kind == "standardise":
        std = float(rewards.std())
        return 1.0 / std, -float(rewards.mean()) / std
    if kind == "return_range":
        returns = np.bincount(windows.table.episode, weights=rewards)[np.unique(windows.table.episode)]
        spread = float(returns.max() - returns.min())
        if spread <= 0.0:
            raise DataError(
                f"every episode of '{name}' has the return {returns[0]:g}, so method.reward=return_range has no range. "
                "Choose method.reward=standardise"
            )
        return 1000.0 / spread, 0.0
    return 1.0, 0.0
