"""IDQL's network: residual blocks with layer norm and a four times wider hidden layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.embeddings import FourierEmbedding
from diffbot.networks.registry import register
from diffbot.networks.seeding import SeededDropout


@dataclass(frozen=True)
class LayerNormMLPConfig:
    width: int = 256  # units of the residual stream (paper: 256)
    blocks: int = 3  # residual blocks (paper: 3)
    dropout: float = 0.1  # before each layer norm (paper: 0.1)
    time_dim: int = 128  # width of the time embedding (official code: 128)
    time_scale: float = 1.0  # standard deviation of the learnable Fourier frequencies for t in [0, 1]


class ResidualBlock(nn.Module):
    """x + Linear(ReLU(Linear(LayerNorm(Dropout(x))))): [..., width] -> [..., width]."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            SeededDropout(dropout),
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


@register("layer_norm_mlp", LayerNormMLPConfig)
class LayerNormMLP(Network):
    """Affine input layer, residual blocks, ReLU, affine output layer, over (x, time, global condition).

    Source: Hansen-Estruch et al. 2023 (IDQL), Sec. 5 and Appendix ("LN_Resnet").
    """

    def __init__(self, config: LayerNormMLPConfig, sizes: Sizes):
        super().__init__(config, sizes)
        self.time = nn.Sequential(
            FourierEmbedding(config.time_dim, config.time_scale),
            nn.Linear(config.time_dim, 2 * config.time_dim),
            nn.Mish(),
            nn.Linear(2 * config.time_dim, config.time_dim),
        )
        self.inner = nn.Linear(sizes.numel + config.time_dim + sizes.condition_dim, config.width)
        self.blocks = nn.Sequential(
            *(ResidualBlock(config.width, config.dropout) for _ in range(config.blocks))
        )
        self.outer = nn.Linear(config.width, sizes.numel)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        parts = [x.flatten(1), self.time(t)]
        if condition is not None and condition.global_ is not None:
            parts.append(condition.global_)
        return self._body(self.inner(torch.cat(parts, dim=-1)), x)

    def precompute(self, times: Tensor, condition: Condition | None) -> StepCache:
        data, end = self.sizes.numel, self.sizes.numel + self.config.time_dim
        weight = self.inner.weight
        time_part = F.linear(self.time(times), weight[:, data:end], self.inner.bias)
        given = condition.global_ if condition is not None else None
        return StepCache(
            times, condition, time_part, None if given is None else F.linear(given, weight[:, end:])
        )

    def step(self, x: Tensor, index: int, cache: StepCache) -> Tensor:
        return self.modulated(x, cache.modulation(index))

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The network given the time-and-condition part [B or 1, width] of its first layer."""
        return self._body(F.linear(x.flatten(1), self.inner.weight[:, : self.sizes.numel]) + modulation, x)

    def _body(self, h: Tensor, x: Tensor) -> Tensor:
        return self.outer(F.relu(self.blocks(h))).reshape(x.shape)
