"""Task indices and instructions as conditions, with tokens that need no download."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError, unknown
from diffbot.networks.encoders.vit import Block

PAD = 0  # the token id of "nothing here"


def words(text: str) -> list[str]:
    """Lower-case words and numbers of an instruction."""
    return re.findall(r"[a-z0-9]+", text.lower())


class VocabularyTokenizer:
    """Words to ids of a fixed vocabulary: texts -> [B, length] int64, padded with PAD.

    Raises ConfigError for a word outside the vocabulary or an instruction longer than `length`.
    """

    def __init__(self, vocabulary: Sequence[str], length: int = 16):
        self.ids = {word: index + 1 for index, word in enumerate(sorted(set(vocabulary)))}
        self.length = length

    @property
    def size(self) -> int:
        """Number of ids, PAD included."""
        return len(self.ids) + 1

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return _table([[self._id(word) for word in words(text)] for text in texts], self.length)

    def _id(self, word: str) -> int:
        if word not in self.ids:
            raise unknown("word", word, self.ids)
        return self.ids[word]


class HashTokenizer:
    """Words to hashed ids, for open vocabularies: texts -> [B, length] int64, padded with PAD.

    Two words share an id with probability 1 / (size - 1). The hash is the same on every machine.
    """

    def __init__(self, size: int = 4096, length: int = 16):
        self.size = size
        self.length = length

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return _table([[self._id(word) for word in words(text)] for text in texts], self.length)

    def _id(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        return 1 + int.from_bytes(digest, "big") % (self.size - 1)


def _table(rows: list[list[int]], length: int) -> Tensor:
    longest = max((len(row) for row in rows), default=0)
    if longest > length:
        raise ConfigError(
            f"an instruction has {longest} words but the tokenizer keeps {length}: raise its length"
        )
    return torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.int64)


@dataclass(frozen=True)
class TextConfig:
    width: int = 128  # token width
    layers: int = 2  # transformer blocks
    heads: int = 4  # attention heads


class TextEncoder(nn.Module):
    """Token ids [B, N] -> (tokens [B, N, width], mask [B, N] bool, sentence [B, width])."""

    def __init__(self, config: TextConfig, vocabulary: int, length: int):
        super().__init__()
        self.width = config.width
        self.embedding = nn.Embedding(vocabulary, config.width, padding_idx=PAD)
        self.position = nn.Parameter(torch.randn(length, config.width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = ids != PAD
        if not bool(mask.any(dim=1).all()):
            raise ConfigError("an instruction is empty; use the null condition for 'no instruction'")
        h = self.embedding(ids) + self.position[: ids.shape[1]]
        for block in self.blocks:
            h = block(h, mask[:, None, None, :])
        h = self.norm(h)
        weights = mask.to(h.dtype)[..., None]
        return h, mask, (h * weights).sum(dim=1) / weights.sum(dim=1)


class TaskEmbedding(nn.Module):
    """One learned vector per task: indices [B] int64 -> [B, features]."""

    def __init__(self, tasks: int, features: int):
        super().__init__()
        self.features = features
        self.table = nn.Embedding(tasks, features)

    def forward(self, task: Tensor) -> Tensor:
        return self.table(task)
