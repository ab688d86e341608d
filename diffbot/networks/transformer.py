"""Diffusion Policy's transformer: action tokens attend to time and observation tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.networks.attention import Attention, CrossAttention, FeedForward
from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.embeddings import SinusoidalEmbedding
from diffbot.networks.registry import register
from diffbot.networks.seeding import SeededDropout


@dataclass(frozen=True)
class TransformerConfig:
    width: int = 256  # token width (paper, low-dimensional tasks: 256)
    layers: int = 8  # decoder layers (paper: 8)
    heads: int = 4  # attention heads (paper: 4)
    dropout: float = 0.1  # on the output of each branch (paper: 0.3 on attention weights)
    causal: bool = True  # a step attends to earlier steps only (paper: True)
    time_scale: float = 100.0  # t in [0, 1] is multiplied by this: the number of DDPM steps it stands for


class DecoderLayer(nn.Module):
    """Pre-norm self-attention, cross-attention to the memory, feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool):
        super().__init__()
        self.causal = causal
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.drops = nn.ModuleList(SeededDropout(dropout) for _ in range(3))
        self.own = Attention(width, heads)
        self.cross = CrossAttention(width, heads)
        self.feed = FeedForward(width)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.drops[0](self.own(self.norms[0](x), causal=self.causal))
        x = x + self.drops[1](self.cross(self.norms[1](x), key, value, mask))
        return x + self.drops[2](self.feed(self.norms[2](x)))


@register("transformer", TransformerConfig)
class Transformer(Network):
    """Decoder over the T steps of x; its memory is one time token, one global token and the given tokens.

    The memory's keys and values for all layers are one linear map of tokens that do not depend on each other, so
    `precompute` evaluates them once per chunk. All steps see the whole memory (index 0 of a chunk is the action
    for the newest observation). Source: Chi et al. 2023 (Diffusion Policy), Sec. 4.1.
    """

    reads = frozenset({"global_", "local", "tokens"})
    ranks = (2,)

    def __init__(self, config: TransformerConfig, sizes: Sizes):
        super().__init__(config, sizes)
        width = config.width
        self.inner = nn.Linear(sizes.channels + sizes.local_dim, width)
        self.position = nn.Parameter(torch.randn(sizes.length, width) * 0.02)
        self.time = SinusoidalEmbedding(width, config.time_scale)
        self.global_ = nn.Linear(sizes.condition_dim, width) if sizes.condition_dim else None
        self.tokens = nn.Linear(sizes.token_dim, width) if sizes.token_dim else None
        self.kinds = nn.Parameter(torch.randn(3, width) * 0.02)  # marks time, global and other tokens
        self.memory = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.keys_values = nn.Linear(width, 2 * width * config.layers)
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.heads, config.dropout, config.causal) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.outer = nn.Linear(width, sizes.channels)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        return self._decode(x, self._time_memory(t)[:, None], self._condition_memory(condition), condition)

    def precompute(self, times: Tensor, condition: Condition | None) -> StepCache:
        """time_part: [S, M]; condition_part: [B, N, M], keys and values of the condition's N tokens."""
        return StepCache(times, condition, self._time_memory(times), self._condition_memory(condition))

    def step(self, x: Tensor, index: int, cache: StepCache) -> Tensor:
        assert cache.time_part is not None
        time = cache.time_part[index].expand(len(x), 1, -1)
        return self._decode(x, time, cache.condition_part, cache.condition)

    def _time_memory(self, t: Tensor) -> Tensor:
        return self.keys_values(self.memory(self.time(t) + self.kinds[0]))

    def _condition_memory(self, condition: Condition | None) -> Tensor | None:
        parts = []
        if condition is not None and condition.global_ is not None and self.global_ is not None:
            parts.append(self.global_(condition.global_)[:, None] + self.kinds[1])
        if condition is not None and condition.tokens is not None and self.tokens is not None:
            parts.append(self.tokens(condition.tokens) + self.kinds[2])
        return self.keys_values(self.memory(torch.cat(parts, dim=1))) if parts else None

    def _decode(self, x: Tensor, time: Tensor, given: Tensor | None, condition: Condition | None) -> Tensor:
        memory = time if given is None else torch.cat([time, given], dim=1)
        if condition is not None and condition.local is not None:
            x = torch.cat([x, condition.local], dim=-1)
        mask = condition.token_mask if condition is not None else None
        if mask is not None:
            mask = F.pad(mask, (memory.shape[1] - mask.shape[1], 0), value=True)
        h = self.inner(x) + self.position
        parts = memory.chunk(2 * self.config.layers, dim=-1)
        for layer, key, value in zip(self.layers, parts[::2], parts[1::2], strict=True):
            h = layer(h, key, value, mask)
        return self.outer(self.norm(h))
