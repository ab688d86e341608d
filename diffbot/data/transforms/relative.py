"""Absolute actions expressed relative to what was observed when the chunk began (as in UMI, section III-B)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from diffbot.data.transforms.base import Transform, transform
from diffbot.errors import ConfigError, DataError


@transform
@dataclass(eq=False)
class RelativeAction(Transform):
    """Subtracts entries of the newest observation from entries of every action of the chunk.

    action_entries[i] has observation_entries[i] of the raw observation `reference` subtracted. Values are [B, H, A]
    actions and [B, To, D] observations, of which the last (the newest) counts.
    """

    name: ClassVar[str] = "relative_action"
    reference: str
    action_entries: tuple[int, ...] = field(default=(0, 1, 2))
    observation_entries: tuple[int, ...] = field(default=(0, 1, 2))
    observation_horizon: int = 1

    def __post_init__(self) -> None:
        self.action_entries = tuple(self.action_entries)
        self.observation_entries = tuple(self.observation_entries)
        if len(self.action_entries) != len(self.observation_entries):
            raise ConfigError(
                f"{len(self.action_entries)} action entries, {len(self.observation_entries)} observed"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.reference,)

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._shift(x, context, -1.0)

    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        return self._shift(y, context, 1.0)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 1 or max(self.action_entries) >= shape[0]:
            raise DataError(f"no action entries {self.action_entries} in a value of shape {shape}")
        return shape

    def _shift(self, x: Tensor, context: Mapping[str, Tensor] | None, sign: float) -> Tensor:
        if context is None or self.reference not in context:
            raise DataError(f"'{self.name}' needs the raw observation '{self.reference}'")
        observed = context[self.reference]
        if x.ndim != 3 or observed.ndim != 3 or len(x) != len(observed):
            raise DataError(
                f"'{self.name}' takes actions [B, H, A] and observations [B, To, D], "
                f"got {tuple(x.shape)} and {tuple(observed.shape)}"
            )
        index = min(self.observation_horizon, observed.shape[1]) - 1
        newest = observed[:, index, :][:, None, list(self.observation_entries)]
        out = x.clone()
        out[..., list(self.action_entries)] += sign * newest.to(
            torch.promote_types(x.dtype, newest.dtype)
        ).to(x.dtype)
        return out
