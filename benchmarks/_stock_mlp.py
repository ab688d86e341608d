"""The residual MLP denoiser written plainly, as its users run it: the opponent of `bench training` for small networks.

nn.Linear and nn.Mish on the concatenation of data, time and condition. `from_ours` copies the weights of a diffbot MLP, so
that both compute the same function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._stock_unet import SinusoidalPosEmb
from diffbot.networks.mlp import MLP


class StockMLP(nn.Module):
    """(sample [B, T, C], timestep [B], condition [B, D]) -> [B, T, C]."""

    def __init__(self, sizes: int, condition: int, width: int, depth: int, time: int) -> None:
        super().__init__()
        self.time = nn.Sequential(
            SinusoidalPosEmb(time), nn.Linear(time, 4 * time), nn.Mish(), nn.Linear(4 * time, time)
        )
        self.inner = nn.Sequential(nn.Linear(sizes + time + condition, width), nn.Mish())
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Mish()) for _ in range(depth - 1)
        )
        self.outer = nn.Linear(width, sizes)

    def forward(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        x = self.inner(torch.cat([sample.flatten(1), self.time(timestep), condition], dim=-1))
        for layer in self.layers:
            x = x + layer(x)
        return self.outer(x).reshape(sample.shape)


def from_ours(net: MLP) -> StockMLP:
    """A stock MLP with the weights of `net` (residual, global condition only)."""
    config, sizes = net.config, net.sizes
    assert config.residual, "the plain form is written for residual networks"
    stock = StockMLP(sizes.numel, sizes.condition_dim, config.width, config.depth, config.time_dim)
    stock.time.load_state_dict(net.time.state_dict())
    stock.inner[0].load_state_dict(net.inner.state_dict())
    stock.outer.load_state_dict(net.outer.state_dict())
    layers: list[Any] = list(stock.layers)
    for theirs, ours in zip(layers, net.layers, strict=True):
        theirs[0].load_state_dict(ours.state_dict())
    return stock
