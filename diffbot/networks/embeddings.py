"""Embeddings of the diffusion time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffbot.networks.activations import Mish


class SinusoidalEmbedding(nn.Module):
    """sin and cos of `scale * t` at `dim / 2` geometric frequencies 1 ... 1/10000 (Vaswani et al. 2017, Sec. 3.5).

    t: [B] in [0, 1] -> [B, dim]. `scale` is the number of discrete steps that t stands for: the embedding then
    equals the discrete one at step `scale * t`.
    """

    def __init__(self, dim: int, scale: float):
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"an embedding width must be even and at least 4, not {dim}")
        self.dim = dim
        self.scale = scale

    def forward(self, t: Tensor) -> Tensor:
        half = self.dim // 2
        exponents = torch.arange(half, device=t.device, dtype=t.dtype) / (half - 1)
        angles = self.scale * t[:, None] * torch.exp(-math.log(10_000.0) * exponents)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FourierEmbedding(nn.Module):
    """sin and cos of t times learnable Gaussian frequencies (Tancik et al. 2020; as in IDQL): [B] -> [B, dim]."""

    def __init__(self, dim: int, scale: float):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(dim // 2) * scale)

    def forward(self, t: Tensor) -> Tensor:
        angles = 2.0 * math.pi * t[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEncoder(nn.Sequential):
    """Sinusoidal embedding, then Linear-Mish-Linear with a hidden layer four times as wide: [B] -> [B, dim]."""

    def __init__(self, dim: int, scale: float):
        super().__init__(
            SinusoidalEmbedding(dim, scale), nn.Linear(dim, 4 * dim), Mish(), nn.Linear(4 * dim, dim)
        )
