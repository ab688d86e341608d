"""A small vision transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.networks.attention import Attention, FeedForward


@dataclass(frozen=True)
class ViTConfig:
    patch: int = 8  # side of a patch in pixels
    width: int = 128  # token width
    layers: int = 4  # blocks
    heads: int = 4  # attention heads
    features: int = 64  # width of the output vector


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.own = Attention(width, heads)
        self.feed = FeedForward(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.own(self.norms[0](x), mask)
        return x + self.feed(self.norms[1](x))


class ViT(nn.Module):
    """Images [B, channels, size, size] -> [B, features]; `tokens` gives the patch tokens [B, N, width].

    Source: Dosovitskiy et al. 2021 (An Image is Worth 16x16 Words), Sec. 3.1, with the mean of the patch tokens
    in place of the class token.
    """

    def __init__(self, config: ViTConfig, size: tuple[int, int], channels: int = 3):
        super().__init__()
        if any(side % config.patch for side in size):
            raise ConfigError(f"images of {size[0]}x{size[1]} pixels are not whole patches of {config.patch}")
        self.features, self.width = config.features, config.width
        count = (size[0] // config.patch) * (size[1] // config.patch)
        self.patches = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
        self.position = nn.Parameter(torch.randn(count, config.width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.outer = nn.Linear(config.width, config.features)

    def tokens(self, images: Tensor) -> Tensor:
        h = self.patches(images).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            h = block(h)
        return self.norm(h)

    def forward(self, images: Tensor) -> Tensor:
        return self.outer(self.tokens(images).mean(dim=1))
