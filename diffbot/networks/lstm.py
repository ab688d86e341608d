"""A recurrent denoiser over the steps of a trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffbot.networks.base import Network, Sizes
from diffbot.networks.condition import Condition
from diffbot.networks.embeddings import TimeEncoder
from diffbot.networks.registry import register


@dataclass(frozen=True)
class LSTMConfig:
    width: int = 256  # units per direction
    layers: int = 2  # stacked recurrent layers
    bidirectional: bool = True  # False makes step i depend on steps up to i only
    time_dim: int = 64  # width of the time embedding
    time_scale: float = 100.0  # t in [0, 1] is multiplied by this before the sinusoidal embedding


@register("lstm", LSTMConfig)
class LSTM(Network):
    """Long short-term memory; each step reads its data, the time and the global and local conditions."""

    reads = frozenset({"global_", "local"})
    ranks = (2,)
    any_length = True

    def __init__(self, config: LSTMConfig, sizes: Sizes):
        super().__init__(config, sizes)
        self.time = TimeEncoder(config.time_dim, config.time_scale)
        inputs = sizes.channels + config.time_dim + sizes.condition_dim + sizes.local_dim
        self.inner = nn.Linear(inputs, config.width)
        self.lstm = nn.LSTM(
            config.width, config.width, config.layers, batch_first=True, bidirectional=config.bidirectional
        )
        self.outer = nn.Linear(config.width * (2 if config.bidirectional else 1), sizes.channels)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        steps = x.shape[1]
        parts = [x, self.time(t)[:, None].expand(-1, steps, -1)]
        if condition is not None and condition.global_ is not None:
            parts.append(condition.global_[:, None].expand(-1, steps, -1))
        if condition is not None and condition.local is not None:
            parts.append(condition.local)
        hidden, _ = self.lstm(torch.relu(self.inner(torch.cat(parts, dim=-1))))
        return self.outer(hidden)
