"""Exponential moving average of weights, with warm-up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from diffbot.errors import ConfigError


@dataclass(frozen=True)
class EMAConfig:
    """decay(n) = min(maximum, 1 - (1 + n / inverse_gamma)^-power) after n updates (Diffusion Policy's settings)."""

    maximum: float = (
        0.999  # largest decay (Diffusion Policy 0.9999, for runs of 1e5 steps and more); 0: no average
    )
    power: float = 0.75  # 2/3 for runs of 1e6 steps and more, 3/4 below
    inverse_gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.maximum < 1.0:
            raise ConfigError(f"ema.maximum must be in [0, 1), got {self.maximum}")
        if self.inverse_gamma <= 0 or self.power <= 0:
            raise ConfigError(
                f"ema.inverse_gamma and ema.power must be positive, got {self.inverse_gamma}, {self.power}"
            )

    def decay(self, updates: int) -> float:
        """The weight of the old average in update number `updates` (0 for the first)."""
        return max(0.0, min(self.maximum, 1.0 - (1.0 + updates / self.inverse_gamma) ** -self.power))


class EMA:
    """Keeps `average` close behind `source`: average <- decay * average + (1 - decay) * source. Buffers are copied.

    Both modules must have the same structure. One fused pass over all weights.
    """

    def __init__(self, source: nn.Module, average: nn.Module, config: EMAConfig) -> None:
        self.config = config
        self.updates = 0
        self._source = [p.detach() for p in source.parameters()]
        self._average = [p.detach() for p in average.parameters()]
        self._source_buffers = list(source.buffers())
        self._average_buffers = list(average.buffers())

    @torch.no_grad()
    def update(self) -> float:
        """One update; returns the decay that was used."""
        decay = self.config.decay(self.updates)
        torch._foreach_lerp_(self._average, self._source, 1.0 - decay)
        for average, source in zip(self._average_buffers, self._source_buffers, strict=True):
            average.copy_(source)
        self.updates += 1
        return decay
