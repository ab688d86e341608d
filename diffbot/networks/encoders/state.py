"""Encoder of low-dimensional states."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class StateConfig:
    width: int = 256  # hidden units
    depth: int = 2  # hidden layers
    features: int = 64  # width of the output


class StateEncoder(nn.Module):
    """MLP with Mish over the last dimension: [..., inputs] -> [..., features]."""

    def __init__(self, config: StateConfig, inputs: int):
        super().__init__()
        self.features = config.features
        sizes = [inputs] + [config.width] * config.depth
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Mish()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], config.features))

    def forward(self, state: Tensor) -> Tensor:
        return self.layers(state)
