"""Multi-head attention and the feed-forward layer that transformers share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.errors import ConfigError


class Attention(nn.Module):
    """Multi-head self-attention: [B, N, width] -> [B, N, width].

    mask: bool, broadcastable to [B, heads, N, N], True where attention is allowed.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.out(join_heads(mixed))


class CrossAttention(nn.Module):
    """Attention of x [B, N, width] to keys and values [B, M, width] that the caller has projected already.

    mask: bool [B, M], True for the entries that may be attended to.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in (self.query(x), key, value))
        allowed = None if mask is None else mask[:, None, None, :]
        return self.out(join_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)))


class FeedForward(nn.Sequential):
    """Linear, GELU, Linear with a hidden layer four times as wide."""

    def __init__(self, width: int):
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, width] -> [B, heads, N, width / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[B, heads, N, d] -> [B, N, heads * d]."""
    return x.transpose(1, 2).flatten(2)


def check_heads(width: int, heads: int) -> None:
    """Raise ConfigError unless the heads divide the width."""
    if heads < 1 or width % heads:
        raise ConfigError(f"{heads} attention heads do not divide the width {width}")
