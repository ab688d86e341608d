"""Transitions (s, a, r, s', d) as one vector, and back: what synthesizers of transitions diffuse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.replay import ReplayBuffer
from diffbot.data.windows import Windows
from diffbot.errors import DataError

CHUNK = 65536


class RewardStatistics(nn.Module):
    """Mean and deviation of the rewards, part of the weights so that a bundle can undo the scaling."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def fit(self, windows: Windows | ReplayBuffer) -> None:
        """Take them from all transitions. Raises DataError for rewards that are not finite."""
        rewards = torch.cat([_rewards(windows, start) for start in range(0, len(windows), CHUNK)]).double()
        if not bool(torch.isfinite(rewards).all()):
            where = f"'{windows.store.path.name}'" if isinstance(windows, Windows) else "the replay buffer"
            raise DataError(f"{where} has rewards that are not finite. See: diffbot data check")
        self.mean.fill_(float(rewards.mean()))
        # A constant reward is kept as it is: it is synthesized exactly, as the mean.
        deviation = float(rewards.std(correction=0))
        self.deviation.fill_(deviation if deviation > 1e-6 else 1.0)


def _rewards(windows: Windows | ReplayBuffer, start: int) -> Tensor:
    batch = windows.gather(np.arange(start, min(start + CHUNK, len(windows)), dtype=np.int64))
    assert batch.rewards is not None
    return batch.rewards[:, 0]


class TransitionVector:
    """Packs [B, D] with D = S + A + 1 + S + 1: state, action, scaled reward, next state, terminal as -1 or 1."""

    def __init__(self, contract: Contract, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self.shapes = {key: contract.field(key).shape for key in self.keys}
        self.sizes = [contract.field(key).size for key in self.keys]
        self.action_shape, self.action_dim = contract.action.shape, contract.action.size
        self.state_dim = sum(self.sizes)

    @property
    def dim(self) -> int:
        """D."""
        return 2 * self.state_dim + self.action_dim + 2

    def pack(self, batch: Batch, reward: RewardStatistics) -> Tensor:
        """[B, D] of a transformed batch of single transitions."""
        assert batch.rewards is not None and batch.terminals is not None
        assert batch.next_observations is not None
        parts = [
            *(batch.observations[key].flatten(1) for key in self.keys),
            batch.actions.flatten(1),
            (batch.rewards - reward.mean) / reward.deviation,
            *(batch.next_observations[key].flatten(1) for key in self.keys),
            2.0 * batch.terminals.to(torch.float32) - 1.0,
        ]
        return torch.cat(parts, dim=1)

    def unpack(self, x: Tensor, reward: RewardStatistics) -> Batch:
        """Inverse of `pack`; the terminal is rounded."""
        count = len(x)
        state, action, scaled, following, terminal = x.split(
            [self.state_dim, self.action_dim, 1, self.state_dim, 1], dim=1
        )
        return Batch(
            self._observation(state),
            action.reshape(count, 1, *self.action_shape),
            torch.ones(count, 1, dtype=torch.bool, device=x.device),
            rewards=scaled * reward.deviation + reward.mean,
            terminals=terminal > 0.0,
            next_observations=self._observation(following),
        )

    def _observation(self, state: Tensor) -> dict[str, Tensor]:
        parts = state.split(self.sizes, dim=1)
        return {
            key: part.reshape(len(state), 1, *self.shapes[key])
            for key, part in zip(self.keys, parts, strict=True)
        }
