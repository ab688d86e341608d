"""Which windows come into which batch: a function of the seed and the number of batches drawn, so exact to resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from diffbot.data.sum_tree import SumTree
from diffbot.errors import ConfigError, DataError


class Sampler(ABC):
    """An endless iterator of int64 [batch_size] window numbers.

    Batch k depends only on (seed, k, rank, world): `load_state_dict` continues exactly. With `world` processes each
    draws its own `batch_size` windows, disjoint parts of one global batch of batch_size·world.
    """

    def __init__(self, size: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1) -> None:
        if size < 1 or batch_size < 1:
            raise ConfigError(
                f"a sampler needs windows and a batch size of at least 1, got {size} and {batch_size}"
            )
        if not 0 <= rank < world:
            raise ConfigError(f"rank {rank} is not within 0..{world - 1}")
        self.size, self.batch_size, self.seed, self.rank, self.world = size, batch_size, seed, rank, world
        self.batches = 0  # drawn so far

    @property
    def batches_per_epoch(self) -> float:
        """Global batches until every window was drawn once (on average)."""
        return self.size / (self.batch_size * self.world)

    @property
    def epoch(self) -> float:
        """Passes over the data so far, with its fraction."""
        return self.batches / self.batches_per_epoch

    def __iter__(self) -> Sampler:
        return self

    def __next__(self) -> np.ndarray:
        indices = self._draw(self.batches)
        self.batches += 1
        return indices

    @abstractmethod
    def _draw(self, batch: int) -> np.ndarray:
        """Batch number `batch` of this rank."""

    def generator(self) -> np.random.Generator:
        """Random numbers that belong to the batch drawn last (for hindsight goals), equal after a resume."""
        return self._rng(2, max(0, self.batches - 1), self.rank)

    def _rng(self, purpose: int, *numbers: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, purpose, *numbers])))

    def state_dict(self) -> dict[str, Any]:
        """JSON-able numbers (and arrays for priorities) that `load_state_dict` takes."""
        return {
            "kind": type(self).__name__,
            "size": self.size,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "world": self.world,
            "batches": self.batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken. DataError when it came from other data or settings."""
        mine = self.state_dict()
        for name in ("kind", "size", "batch_size", "seed", "world"):
            if state.get(name) != mine[name]:
                raise DataError(
                    f"the sampler state has {name}={state.get(name)!r}, this run has {mine[name]!r}: "
                    "resume with the same dataset and settings"
                )
        self.batches = int(state["batches"])


class ShuffledSampler(Sampler):
    """Without replacement: the batches cut up an endless row of permutations, one for each epoch."""

    def __init__(self, size: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1) -> None:
        super().__init__(size, batch_size, seed, rank=rank, world=world)
        self._cache: dict[int, np.ndarray] = {}

    def _draw(self, batch: int) -> np.ndarray:
        first = (batch * self.world + self.rank) * self.batch_size
        parts, position, left = [], first, self.batch_size
        while left:
            epoch, at = divmod(position, self.size)
            part = self._permutation(epoch)[at : at + left]
            parts.append(part)
            position, left = position + len(part), left - len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._cache:
            self._cache = {e: p for e, p in self._cache.items() if e == epoch - 1}
            self._cache[epoch] = self._rng(0, epoch).permutation(self.size)
        return self._cache[epoch]


class WeightedSampler(Sampler):
    """With replacement, window i with probability weights[i] / sum(weights)."""

    def __init__(
        self, weights: np.ndarray, batch_size: int, seed: int, *, rank: int = 0, world: int = 1
    ) -> None:
        super().__init__(len(weights), batch_size, seed, rank=rank, world=world)
        weights = np.asarray(weights, np.float64)
        if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
            raise DataError("weights must be finite, not negative, and not all zero")
        self._cumulative = np.cumsum(weights)

    def _draw(self, batch: int) -> np.ndarray:
        draws = self._rng(1, batch, self.rank).random(self.batch_size) * self._cumulative[-1]
        return np.searchsorted(self._cumulative, draws, side="right")


class PrioritizedSampler(Sampler):
    """Prioritised replay (Schaul et al. 2016, section 3.3): P(i) = p_i^alpha / sum of p^alpha."""

    def __init__(self, size: int, batch_size: int, seed: int, *, alpha: float = 0.6) -> None:
        super().__init__(size, batch_size, seed)
        if alpha < 0:
            raise ConfigError(f"alpha must be 0 or more, got {alpha}")
        self.alpha = alpha
        self._tree = SumTree(np.ones(size))

    def _draw(self, batch: int) -> np.ndarray:
        # Stratified (appendix B.2.1): one draw from each of batch_size equal parts of the total.
        part = (np.arange(self.batch_size) + self._rng(1, batch).random(self.batch_size)) / self.batch_size
        return self._tree.find(part * self._tree.total)

    def update(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """Set the priorities (finite, > 0; for example |TD error| + epsilon) of these windows."""
        priorities = np.asarray(priorities, np.float64)
        if not np.isfinite(priorities).all() or (priorities <= 0).any():
            raise DataError("priorities must be finite and positive; add a small constant")
        self._tree.set(np.asarray(indices), priorities**self.alpha)

    def weights(self, indices: np.ndarray, beta: float) -> np.ndarray:
        """Importance weights (N·P(i))^-beta divided by their largest in the batch, [B] (section 3.4)."""
        probability = self._tree.get(np.asarray(indices)) / self._tree.total
        weights = (self.size * probability) ** -beta
        return weights / weights.max()

    def state_dict(self) -> dict[str, Any]:
        """As `Sampler.state_dict`, with the array `priorities`."""
        return {**super().state_dict(), "alpha": self.alpha, "priorities": self._tree.leaves.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, priorities included."""
        super().load_state_dict(state)
        priorities = np.asarray(state["priorities"], np.float64)
        if state.get("alpha") != self.alpha or priorities.shape != (self.size,):
            raise DataError("the sampler state has another alpha or number of priorities")
        self._tree = SumTree(priorities)
