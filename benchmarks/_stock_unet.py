"""The conditional 1-D U-Net of Diffusion Policy written plainly, as its users run it: the opponent of `bench engine`.

nn.Conv1d, nn.GroupNorm and nn.Mish in [B, C, T], one small FiLM layer per block, everything evaluated at every step.
`from_ours` copies the weights of a diffbot U-Net, so that both compute the same function.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.networks.temporal import Conv
from diffbot.networks.unet import UNet


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor) -> Tensor:
        half = self.dim // 2
        frequency = torch.exp(torch.arange(half, device=t.device) * -(math.log(10000) / (half - 1)))
        angle = t[:, None] * frequency[None, :]
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class ResidualBlock(nn.Module):
    """Conv1d - GroupNorm - Mish, FiLM, Conv1d - GroupNorm - Mish, plus a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, condition: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(i, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs), nn.Mish()
            )
            for i in (inputs, outputs)
        )
        self.outputs = outputs
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * outputs))
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        film = self.film(condition).reshape(-1, 2, self.outputs, 1)
        h = film[:, 0] * self.blocks[0](x) + film[:, 1]
        return self.blocks[1](h) + self.shortcut(x)


class StockUNet(nn.Module):
    """(sample [B, T, C], timestep [B], condition [B, D]) -> [B, T, C]."""

    def __init__(
        self, channels: int, condition: int, dims: tuple[int, ...], kernel: int, groups: int, time: int
    ):
        super().__init__()
        self.time = nn.Sequential(
            SinusoidalPosEmb(time), nn.Linear(time, 4 * time), nn.Mish(), nn.Linear(4 * time, time)
        )
        widths = list(zip((channels, *dims[:-1]), dims, strict=True))

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, time + condition, kernel, groups)

        self.down = nn.ModuleList(nn.ModuleList([block(i, o), block(o, o)]) for i, o in widths)
        self.downsample = nn.ModuleList(nn.Conv1d(d, d, 3, 2, 1) for d in dims[:-1])
        self.middle = nn.ModuleList([block(dims[-1], dims[-1]), block(dims[-1], dims[-1])])
        self.up = nn.ModuleList(
            nn.ModuleList([block(2 * o, i), block(i, i)]) for i, o in reversed(widths[1:])
        )
        self.upsample = nn.ModuleList(nn.ConvTranspose1d(d, d, 4, 2, 1) for d in reversed(dims[:-1]))
        self.head = nn.Sequential(
            nn.Sequential(
                nn.Conv1d(dims[0], dims[0], kernel, padding=kernel // 2),
                nn.GroupNorm(groups, dims[0]),
                nn.Mish(),
            ),
            nn.Conv1d(dims[0], channels, 1),
        )

    def forward(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        x = sample.moveaxis(-1, -2)
        features = torch.cat([self.time(timestep), condition], dim=-1)
        skips = []
        for level, pair in enumerate(self.down):
            x = _both(pair, x, features)
            skips.append(x)
            if level < len(self.downsample):
                x = self.downsample[level](x)
        x = _both(self.middle, x, features)
        for pair, upsample in zip(self.up, self.upsample, strict=True):
            x = _both(pair, torch.cat((x, skips.pop()), dim=1), features)
            x = upsample(x)
        return self.head(x).moveaxis(-1, -2)


def _both(pair: Any, x: Tensor, condition: Tensor) -> Tensor:
    return pair[1](pair[0](x, condition), condition)


def from_ours(net: UNet) -> nn.Module:
    """A stock U-Net with the weights of `net` (global condition only)."""
    config, sizes = net.config, net.sizes
    stock: Any = StockUNet(
        sizes.channels, sizes.condition_dim, config.down_dims, config.kernel, config.groups, config.time_dim
    )
    with torch.no_grad():
        stock.time.load_state_dict(net.time.state_dict())
        splits = list(zip(net.film.weight.split(net.widths), net.film.bias.split(net.widths), strict=True))
        pairs: list[Any] = [*zip(stock.down, net.down, strict=True), (stock.middle, net.middle)]
        pairs += list(zip(stock.up, net.up, strict=True))
        for blocks, pair in pairs:
            for theirs, ours in zip(blocks, (pair.first, pair.second), strict=True):
                _copy_block(theirs, ours, *splits[ours.slot])
        for theirs, ours in zip(stock.downsample, net.downsample, strict=True):
            _copy_conv(theirs, ours)
        upsample: list[Any] = list(net.upsample)
        for theirs, ours in zip(stock.upsample, upsample, strict=True):
            theirs.weight.copy_(ours.weight.permute(2, 0, 1))
            theirs.bias.copy_(ours.bias)
        head: Any = net.head
        _copy_conv_block(stock.head[0], head[0])
        _copy_conv(stock.head[1], head[1])
    return stock.eval().requires_grad_(False)


def _copy_block(theirs: Any, ours: Any, weight: Tensor, bias: Tensor) -> None:
    _copy_conv_block(theirs.blocks[0], ours.first)
    _copy_conv_block(theirs.blocks[1], ours.second)
    theirs.film[1].weight.copy_(weight)
    theirs.film[1].bias.copy_(bias)
    if isinstance(ours.residual, Conv):
        _copy_conv(theirs.shortcut, ours.residual)


def _copy_conv_block(theirs: Any, ours: Any) -> None:
    _copy_conv(theirs[0], ours[0])
    theirs[1].load_state_dict(ours[1].state_dict())


def _copy_conv(theirs: Any, ours: Any) -> None:
    theirs.weight.copy_(ours.weight.transpose(1, 2))
    theirs.bias.copy_(ours.bias)
