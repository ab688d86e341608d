"""A replay buffer: the newest transitions of an agent that explores, in arrays of fixed size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.errors import DataError


class ReplayBuffer:
    """Rows (s, a, r, s', terminated) of raw values. When it is full the oldest row gives way.

    terminated: the task itself ended behind the row. A time limit is no such end: its row has the s' that was reached and
    terminated False, so that the value of s' counts.
    """

    def __init__(self, contract: Contract, keys: Sequence[str], capacity: int) -> None:
        if capacity < 1:
            raise DataError(f"a replay buffer holds at least 1 transition, got capacity {capacity}")
        self.keys, self.capacity = tuple(keys), capacity
        self.count = 0  # rows that were ever added
        fields = {key: contract.field(key) for key in self.keys}
        self.arrays: dict[str, Tensor] = {}
        for prefix in ("", "next_"):
            for key, field in fields.items():
                self.arrays[prefix + key] = _zeros(capacity, field.shape, field.dtype)
        self.arrays["action"] = _zeros(capacity, contract.action.shape, contract.action.dtype)
        self.arrays["reward"] = torch.zeros(capacity)
        self.arrays["terminated"] = torch.zeros(capacity, dtype=torch.bool)

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(
        self,
        observation: Mapping[str, np.ndarray],
        action: np.ndarray,
        reward: float,
        following: Mapping[str, np.ndarray],
        terminated: bool,
    ) -> None:
        """Append one step; `following` is the observation behind it, also where the episode ended there."""
        row = self.count % self.capacity
        for key in self.keys:
            self.arrays[key][row] = torch.from_numpy(np.asarray(observation[key]))
            self.arrays[f"next_{key}"][row] = torch.from_numpy(np.asarray(following[key]))
        self.arrays["action"][row] = torch.from_numpy(np.asarray(action))
        self.arrays["reward"][row] = reward
        self.arrays["terminated"][row] = terminated
        self.count += 1

    def extend(self, rows: Mapping[str, Tensor]) -> None:
        """Append many rows, arrays [N, ...] by name as in `arrays`. Raises DataError for more than the capacity."""
        number = len(rows["action"])
        if number > self.capacity:
            raise DataError(f"{number} rows do not fit into a replay buffer of {self.capacity}")
        where = (torch.arange(number) + self.count) % self.capacity
        for name, array in self.arrays.items():
            array[where] = rows[name].to(array.dtype).reshape(number, *array.shape[1:])
        self.count += number

    def gather(self, indices: np.ndarray | Tensor, *, generator: np.random.Generator | None = None) -> Batch:
        """The rows of these numbers as single transitions: observations {key: [B, 1, ...]}, rewards [B, 1], ..."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        rows = {name: torch.index_select(array, 0, index)[:, None] for name, array in self.arrays.items()}
        return Batch(
            {key: rows[key] for key in self.keys},
            rows["action"],
            torch.ones(len(index), 1, dtype=torch.bool),
            rewards=rows["reward"],
            terminals=rows["terminated"],
            next_observations={key: rows[f"next_{key}"] for key in self.keys},
        )

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """`size` rows, each drawn uniformly. Raises DataError while there are none."""
        if not len(self):
            raise DataError("the replay buffer is empty")
        return self.gather(rng.integers(len(self), size=size))

    def state(self) -> dict[str, Any]:
        """The filled part, for a checkpoint."""
        return {"count": self.count, "arrays": {name: a[: len(self)] for name, a in self.arrays.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.count = int(state["count"])
        for name, array in self.arrays.items():
            array[: len(self)] = state["arrays"][name]


def join(first: Batch, second: Batch) -> Batch:
    """One batch of transitions after the other."""

    def both(a: Mapping[str, Tensor] | None, b: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        assert a is not None and b is not None
        return {key: torch.cat([a[key], b[key]]) for key in a}

    assert first.rewards is not None and second.rewards is not None
    assert first.terminals is not None and second.terminals is not None
    return Batch(
        both(first.observations, second.observations),
        torch.cat([first.actions, second.actions]),
        torch.cat([first.mask, second.mask]),
        rewards=torch.cat([first.rewards, second.rewards]),
        terminals=torch.cat([first.terminals, second.terminals]),
        next_observations=both(first.next_observations, second.next_observations),
    )


def _zeros(capacity: int, shape: tuple[int, ...], dtype: str) -> Tensor:
    return torch.from_numpy(np.zeros((capacity, *shape), dtype))
