"""Diffusion transformer with adaptive layer norm (adaLN-Zero) over the steps of a trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.networks.attention import Attention, FeedForward
from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.embeddings import TimeEncoder
from diffbot.networks.registry import register


@dataclass(frozen=True)
class DiTConfig:
    width: int = 256  # token width (DiT-S: 384)
    layers: int = 6  # blocks (DiT-S: 12)
    heads: int = 4  # attention heads (DiT-S: 6)
    time_scale: float = 1000.0  # t in [0, 1] is multiplied by this: the number of DDPM steps it stands for


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x: [B, N, D]; shift, scale: [B or 1, D]."""
    return x * (1.0 + scale[:, None]) + shift[:, None]


class DiTBlock(nn.Module):
    """Self-attention and feed-forward, each shifted, scaled and gated by the condition; the identity at first."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.own = Attention(width, heads)
        self.feed = FeedForward(width)
        self.modulation = zero_linear(width, 6 * width)

    def forward(self, x: Tensor, c: Tensor, mask: Tensor | None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
        x = x + gate1[:, None] * self.own(modulate(self.norms[0](x), shift1, scale1), mask)
        return x + gate2[:, None] * self.feed(modulate(self.norms[1](x), shift2, scale2))


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose output is zero at first."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@register("dit", DiTConfig)
class DiT(Network):
    """adaLN-Zero transformer over [B, T, C]; tokens of the condition precede the steps in the same sequence.

    Source: Peebles & Xie 2023 (Scalable Diffusion Models with Transformers), Sec. 3.2.
    """

    reads = frozenset({"global_", "local", "tokens"})
    ranks = (2,)

    def __init__(self, config: DiTConfig, sizes: Sizes):
        super().__init__(config, sizes)
        width = config.width
        self.inner = nn.Linear(sizes.channels + sizes.local_dim, width)
        self.position = nn.Parameter(torch.randn(sizes.length, width) * 0.02)
        self.time = TimeEncoder(width, config.time_scale)
        self.global_ = nn.Linear(sizes.condition_dim, width) if sizes.condition_dim else None
        self.tokens = nn.Linear(sizes.token_dim, width) if sizes.token_dim else None
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = zero_linear(width, 2 * width)
        self.outer = zero_linear(width, sizes.channels)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        c = self.time(t)
        given = self._given(condition)
        return self._body(x, c if given is None else c + given, condition)

    def precompute(self, times: Tensor, condition: Condition | None) -> StepCache:
        return StepCache(times, condition, self.time(times), self._given(condition))

    def step(self, x: Tensor, index: int, cache: StepCache) -> Tensor:
        return self._body(x, cache.modulation(index), cache.condition)

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The network given the sum [B or 1, width] of time and condition embeddings, without local and tokens."""
        return self._body(x, modulation, None)

    def _given(self, condition: Condition | None) -> Tensor | None:
        if self.global_ is None or condition is None or condition.global_ is None:
            return None
        return self.global_(condition.global_)

    def _body(self, x: Tensor, c: Tensor, condition: Condition | None) -> Tensor:
        if condition is not None and condition.local is not None:
            x = torch.cat([x, condition.local], dim=-1)
        h = self.inner(x) + self.position
        mask = None
        if condition is not None and condition.tokens is not None and self.tokens is not None:
            h = torch.cat([self.tokens(condition.tokens), h], dim=1)
            if condition.token_mask is not None:
                mask = F.pad(condition.token_mask, (0, x.shape[1]), value=True)[:, None, None, :]
        c = F.silu(c)
        for block in self.blocks:
            h = block(h, c, mask)
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        return self.outer(modulate(self.norm(h[:, -x.shape[1] :]), shift, scale))
