"""What one collection is made of: an ordered list of parts, each with its quality, its seeds and its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffbot.errors import ConfigError

FIRST_EVALUATION_SEED = 100_000


@dataclass(frozen=True)
class Part:
    """Episodes of one quality: seeds first..stop-1, until it holds `size` episodes or steps."""

    quality: str
    first: int
    stop: int
    size: int

    def to_list(self) -> list[Any]:
        """For the provenance."""
        return [self.quality, self.first, self.stop, self.size]


def parts_of(quality: str, mix: Mapping[str, float], first: int, size: int) -> tuple[Part, ...]:
    """One part of `quality`, or one for each entry of `mix` with its share of `size`.

    Shares are relative: {"medium": 1, "expert": 1} is half and half. Each part has an equal block of the seeds from
    `first` up to 99999, so a seed says which part it belongs to. Raises ConfigError unless the shares are positive.
    """
    shares = dict(mix) or {quality: 1.0}
    if not min(shares.values()) > 0:
        raise ConfigError(f"the shares of mix must be positive, got {shares}")
    block = (FIRST_EVALUATION_SEED - first) // len(shares)
    reached = np.cumsum(list(shares.values()))
    ends = np.round(reached / reached[-1] * size).astype(int)
    sizes = np.diff(ends, prepend=0)
    if block < 1 or sizes.min() < 1:
        raise ConfigError(f"a collection of {size} from seed {first} is too small for {len(shares)} parts")
    return tuple(
        Part(name, first + i * block, first + (i + 1) * block, int(sizes[i])) for i, name in enumerate(shares)
    )


class Plan:
    """Which seed is played next, and whether an episode that comes back still belongs to the dataset.

    An iterator of seeds. Episodes come back in the order in which their seeds were taken, and a part ends as soon as it is
    full; what workers had begun of it by then is dropped. So the dataset does not depend on their number.
    in_steps: sizes of parts count steps, not episodes. Part by part, nothing of a later one comes before an earlier is full.
    """

    def __init__(self, parts: tuple[Part, ...], in_steps: bool):
        self.parts, self.in_steps = parts, in_steps
        self._have = [0] * len(parts)
        self._present = 0
        self._seed = parts[0].first

    def resume(self, seeds: np.ndarray, lengths: np.ndarray) -> None:
        """Count the episodes that a dataset holds: their seeds and lengths in steps, each [episodes]."""
        for i, part in enumerate(self.parts):
            mine = (seeds >= part.first) & (seeds < part.stop)
            self._have[i] = int(lengths[mine].sum() if self.in_steps else mine.sum())
        self._enter(next((i for i in range(len(self.parts)) if self._lacks(i)), len(self.parts)))
        if not self.full and len(seeds):
            self._seed = max(self._seed, int(seeds.max()) + 1)

    @property
    def full(self) -> bool:
        """Whether every part has its size."""
        return self._present == len(self.parts)

    @property
    def have(self) -> int:
        """Episodes or steps so far, each part counted up to its size."""
        return sum(min(have, part.size) for have, part in zip(self._have, self.parts, strict=True))

    @property
    def size(self) -> int:
        """Episodes or steps of the whole."""
        return sum(part.size for part in self.parts)

    def belongs(self, seed: int) -> bool:
        """Whether an episode of this seed belongs to the part that is being filled."""
        return not self.full and self.parts[self._present].first <= seed < self.parts[self._present].stop

    def add(self, steps: int) -> None:
        """Count an episode of the present part that was stored; goes on to the next part when it is full."""
        self._have[self._present] += steps if self.in_steps else 1
        if not self._lacks(self._present):
            self._enter(self._present + 1)

    def __iter__(self) -> Plan:
        return self

    def __next__(self) -> int:
        if self.full or self._seed >= self.parts[self._present].stop:
            raise StopIteration
        self._seed += 1
        return self._seed - 1

    def _lacks(self, index: int) -> bool:
        return self._have[index] < self.parts[index].size

    def _enter(self, index: int) -> None:
        self._present = index
        if not self.full:
            self._seed = self.parts[index].first
