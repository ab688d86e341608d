"""A plain or residual multi-layer perceptron over the flattened data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.networks.activations import mish
from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.embeddings import TimeEncoder
from diffbot.networks.registry import register


@dataclass(frozen=True)
class MLPConfig:
    width: int = 512  # units per hidden layer (Diffusion-QL: 256)
    depth: int = 3  # hidden layers
    residual: bool = True  # add each layer's input to its output; False is Diffusion-QL's network
    time_dim: int = 64  # width of the time embedding (Diffusion-QL: 16)
    time_scale: float = 100.0  # t in [0, 1] is multiplied by this before the sinusoidal embedding


@register("mlp", MLPConfig)
class MLP(Network):
    """Linear layers with Mish on the concatenation of x, time and global condition.

    The first layer is affine in (x, time, condition), so its time and condition halves are computed once per
    chunk by `precompute`. Source of the plain form: Wang et al. 2023 (Diffusion-QL), Appendix.
    """

    def __init__(self, config: MLPConfig, sizes: Sizes):
        super().__init__(config, sizes)
        self.time = TimeEncoder(config.time_dim, config.time_scale)
        self.inner = nn.Linear(sizes.numel + config.time_dim + sizes.condition_dim, config.width)
        self.layers = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.depth - 1))
        self.outer = nn.Linear(config.width, sizes.numel)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        parts = [x.flatten(1), self.time(t)]
        if condition is not None and condition.global_ is not None:
            parts.append(condition.global_)
        return self._body(self.inner(torch.cat(parts, dim=-1)), x)

    def precompute(self, times: Tensor, condition: Condition | None) -> StepCache:
        data, time = self.sizes.numel, self.config.time_dim
        weight = self.inner.weight
        time_part = F.linear(self.time(times), weight[:, data : data + time], self.inner.bias)
        given = condition.global_ if condition is not None else None
        condition_part = None if given is None else F.linear(given, weight[:, data + time :])
        return StepCache(times, condition, time_part, condition_part)

    def step(self, x: Tensor, index: int, cache: StepCache) -> Tensor:
        return self.modulated(x, cache.modulation(index))

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The network given the time-and-condition part [B or 1, width] of its first layer."""
        return self._body(F.linear(x.flatten(1), self.inner.weight[:, : self.sizes.numel]) + modulation, x)

    def _body(self, h: Tensor, x: Tensor) -> Tensor:
        h = mish(h)
        for layer in self.layers:
            update = mish(layer(h))
            h = h + update if self.config.residual else update
        return self.outer(h).reshape(x.shape)
