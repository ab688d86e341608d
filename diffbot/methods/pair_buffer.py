"""The newest rows of several tensors, drawn again and again: what a teacher has computed at a cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class PairBuffer:
    """A ring of `capacity` rows; every row has one entry per key."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.rows: dict[str, Tensor] = {}
        self.size = 0
        self.next = 0

    def add(self, rows: Mapping[str, Tensor]) -> None:
        """Store rows [N, ...] under the same keys each time; the oldest make room. N beyond the capacity is cut."""
        rows = {key: value[-self.capacity :].detach() for key, value in rows.items()}
        count = len(next(iter(rows.values())))
        if not self.rows:
            self.rows = {
                key: value.new_empty((self.capacity, *value.shape[1:])) for key, value in rows.items()
            }
        index = (self.next + torch.arange(count)) % self.capacity
        for key, value in rows.items():
            self.rows[key][index.to(value.device)] = value
        self.next = (self.next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """`count` rows drawn with replacement. Raises ValueError while there are none."""
        if self.size == 0:
            raise ValueError("nothing was added to the buffer yet")
        index = torch.randint(self.size, (count,), generator=generator, device=generator.device)
        return {key: value[index.to(value.device)] for key, value in self.rows.items()}

    def state(self) -> dict[str, Any]:
        """The filled rows and where the next one goes."""
        return {
            "rows": {key: value[: self.size].clone() for key, value in self.rows.items()},
            "next": self.next,
        }

    def load_state(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Inverse of `state`."""
        self.rows, self.size, self.next = {}, 0, 0
        rows = {key: value.to(device) for key, value in state["rows"].items()}
        if rows:
            self.add(rows)
        self.next = int(state["next"])
