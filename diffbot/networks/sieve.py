"""The MLP-sieve of Pearce et al.: every layer sees the time and the noised data again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffbot.networks.base import Network, Sizes
from diffbot.networks.condition import Condition
from diffbot.networks.embeddings import TimeEncoder
from diffbot.networks.registry import register


@dataclass(frozen=True)
class SieveConfig:
    width: int = 512  # units per hidden layer (official code: 512)
    layers: int = 3  # hidden layers (official code: 3)
    embed_dim: int = 128  # width of the separate embeddings of x, time and condition (official code: 128)
    time_scale: float = 50.0  # t in [0, 1] is multiplied by this; the paper's number of steps


@register("mlp_sieve", SieveConfig)
class MLPSieve(Network):
    """Separate embeddings of x, time and condition; hidden layers joined by scaled skips and raw (x, t).

    The published network normalises over the batch; here layers normalise over features, so that a sample does
    not depend on its neighbours. Source: Pearce et al. 2023 (Imitating Human Behaviour with Diffusion Models),
    Sec. 4.3 and Fig. 3.
    """

    def __init__(self, config: SieveConfig, sizes: Sizes):
        super().__init__(config, sizes)
        embed, width, data = config.embed_dim, config.width, sizes.numel

        def embedding(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, embed), nn.LeakyReLU(), nn.Linear(embed, embed))

        self.time = TimeEncoder(embed, config.time_scale)
        self.data = embedding(data)
        self.condition = embedding(sizes.condition_dim) if sizes.condition_dim else None
        inputs = embed * (3 if sizes.condition_dim else 2)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(inputs if i == 0 else width + data + 1, width), nn.LayerNorm(width), nn.GELU()
            )
            for i in range(config.layers)
        )
        self.outer = nn.Linear(width + data + 1, data)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        flat = x.flatten(1)
        raw = [flat, t[:, None]]
        parts = [self.data(flat), self.time(t)]
        if self.condition is not None and condition is not None and condition.global_ is not None:
            parts.append(self.condition(condition.global_))
        h = self.layers[0](torch.cat(parts, dim=-1))
        for layer in self.layers[1:]:
            scaled = h / math.sqrt(2.0)
            h = layer(torch.cat([scaled, *raw], dim=-1)) + scaled
        return self.outer(torch.cat([h, *raw], dim=-1)).reshape(x.shape)
