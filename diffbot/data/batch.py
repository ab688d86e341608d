"""What a method's `update` receives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B windows. To: observation horizon, H: action horizon of the window, A: action dimension.

    observations: key -> [B, To, ...] of steps t-To+1..t ([B, To-1+H, ...] up to step t+H-1 with `observe_future`).
    actions: [B, H, A] of steps t..t+H-1. mask: [B, H] bool, False where the step lies behind the episode's end.
    rewards: [B, H], 0 where the mask is False. terminals: [B, H] bool, True where the task itself ended the episode
    (never for a time limit). returns: [B], discounted sum of rewards from t to the episode's end.
    next_observations: key -> [B, To, ...], the history that ends at step t+H. goals: key -> [B, ...].
    task: [B] int64, an index into `Windows.tasks`. index: [B] int64, the windows' numbers.
    """

    observations: dict[str, Tensor]
    actions: Tensor
    mask: Tensor
    rewards: Tensor | None = None
    terminals: Tensor | None = None
    returns: Tensor | None = None
    next_observations: dict[str, Tensor] | None = None
    goals: dict[str, Tensor] | None = None
    task: Tensor | None = None
    index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.actions)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `function` applied to every tensor."""
        changed: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, dict):
                changed[f.name] = {k: function(v) for k, v in value.items()}
            elif value is not None:
                changed[f.name] = function(value)
        return replace(self, **changed)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name ("observations.eef_pos", "actions")."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, dict):
                yield from ((f"{f.name}.{k}", v) for k, v in value.items())
            elif value is not None:
                yield f.name, value

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on a device."""
        return self.map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for asynchronous copies to a GPU."""
        return self.map(lambda x: x.pin_memory())

    def replace(self, **changes: object) -> Batch:
        """The batch with some members replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
