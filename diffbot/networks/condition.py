"""What a network is conditioned on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from diffbot.errors import ConfigError


@dataclass(frozen=True)
class Condition:
    """The condition of one batch; every tensor that is present has the same leading size B.

    global_: [B, D], one vector per sample: encoded observations, goals, returns.
    local: [B, T, D], one vector per step of the trajectory.
    tokens: [B, N, D], a set or sequence that the network may attend to.
    token_mask: [B, N] bool, True where the token is real; None means all are.
    """

    global_: Tensor | None = None
    local: Tensor | None = None
    tokens: Tensor | None = None
    token_mask: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {name: len(tensor) for name, tensor in self.present().items()}
        if len(set(sizes.values())) > 1:
            raise ConfigError(f"the parts of a condition differ in batch size: {sizes}")
        if self.token_mask is not None and self.tokens is None:
            raise ConfigError("a condition has a token_mask but no tokens")

    def present(self) -> dict[str, Tensor]:
        """The parts that are not None, by field name."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in parts.items() if tensor is not None}

    @property
    def batch(self) -> int | None:
        """B, or None for an empty condition."""
        return next((len(tensor) for tensor in self.present().values()), None)

    def map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        """Apply `function` to every tensor that is present."""
        return Condition(**{name: function(tensor) for name, tensor in self.present().items()})

    def to(self, device: torch.device | str) -> Condition:
        return self.map(lambda tensor: tensor.to(device))

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """The condition of some rows of the batch."""
        return self.map(lambda tensor: tensor[rows])

    def repeat(self, times: int) -> Condition:
        """Each row `times` times in a row (several samples per observation): [B, ...] -> [B*times, ...]."""
        return self.map(lambda tensor: tensor.repeat_interleave(times, dim=0))

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Stack conditions along the batch (one network call for several guidance terms)."""
        names = [tuple(condition.present()) for condition in conditions]
        if len(set(names)) != 1:
            raise ConfigError(f"conditions with different parts cannot be stacked: {names}")
        return Condition(**{name: torch.cat([getattr(c, name) for c in conditions]) for name in names[0]})
