"""How good synthesized transitions are: marginals, correlations, coverage, memorisation, and the dynamics' own answer.

Everything is measured on transitions as vectors (s, a, r, s'), each entry divided by its deviation in the real data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import wasserstein_distance

from diffbot.errors import DataError

Rows = Mapping[str, np.ndarray]
"""Transitions by name: observation keys, `next_<key>`, action, reward, terminated; [N, ...] each."""


@dataclass(frozen=True)
class Quality:
    """What a synthesized set is like beside a real one; see `quality`."""

    marginal: float
    correlation: float
    coverage: float
    nearest: float
    terminal_rate: float
    real_terminal_rate: float
    outside: float

    def problems(self) -> list[str]:
        """What makes these samples unfit to learn from, in words; empty when nothing does."""
        limits = [
            (self.marginal > 0.35, f"marginals are {self.marginal:.2f} deviations off (at most 0.35)"),
            (self.correlation > 0.25, f"correlations are {self.correlation:.2f} off (at most 0.25)"),
            (self.coverage < 0.3, f"they cover {self.coverage:.0%} of the data (at least 30 %)"),
            (self.nearest < 0.2, f"they repeat the data: nearest distance {self.nearest:.2f} (at least 0.2)"),
            (
                self.outside > 0.1,
                f"{self.outside:.0%} of the actions are outside the contract (at most 10 %)",
            ),
        ]
        return [text for wrong, text in limits if wrong]

    def record(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def transition_matrix(rows: Rows, keys: Sequence[str]) -> np.ndarray:
    """float64 [N, D]: observations, action, reward, next observations."""
    parts = [rows[key] for key in keys] + [rows["action"], rows["reward"]]
    parts += [rows[f"next_{key}"] for key in keys]
    return np.concatenate([np.asarray(p, np.float64).reshape(len(p), -1) for p in parts], axis=1)


def quality(
    real: Rows, synthetic: Rows, keys: Sequence[str], *, seed: int, outside: float = 0.0, most: int = 4000
) -> Quality:
    """Compare at most `most` transitions of each, drawn by `seed`.

    marginal: mean over entries of the 1-D Wasserstein distance in deviations. correlation: mean absolute difference of
    the correlation matrices. coverage: part of the real transitions that have a synthetic one within the distance of their
    5th real neighbour (Naeem et al. 2020, Eq. 4). nearest: median distance from synthetic to nearest real, divided by that
    from held-out real to nearest real; near 0 means copies, 1 means as new as the data itself. outside: passed through.
    Raises DataError for fewer than 200 transitions on either side or values that are not finite.
    """
    rng = np.random.default_rng(seed)
    matrices = []
    for name, rows in (("real", real), ("synthesized", synthetic)):
        matrix = transition_matrix(rows, keys)
        if len(matrix) < 200:
            raise DataError(f"a comparison needs at least 200 {name} transitions, got {len(matrix)}")
        if not np.isfinite(matrix).all():
            raise DataError(f"{int((~np.isfinite(matrix)).any(1).sum())} {name} transitions are not finite")
        matrices.append(matrix[rng.permutation(len(matrix))[: 2 * most]])
    scale = matrices[0].std(0)
    used = scale > 1e-6
    a, b = (matrix[:, used] / scale[used] for matrix in matrices)
    b = b[:most]
    half = len(a) // 2
    marginal = float(np.mean([wasserstein_distance(a[:, i], b[:, i]) for i in range(a.shape[1])]))
    held, known = a[:half], a[half:]
    tree = cKDTree(known)
    own = np.median(tree.query(held)[0])
    theirs = np.median(tree.query(b)[0])
    radius = tree.query(known, k=6)[0][:, 5]  # the first neighbour is the point itself
    count = min(len(b), len(known))
    covered = cKDTree(b[:count]).query(known)[0] <= radius
    return Quality(
        marginal=marginal,
        correlation=_correlation_difference(a, b),
        coverage=float(covered.mean()),
        nearest=float(theirs / max(float(own), 1e-12)),
        terminal_rate=float(np.mean(synthetic["terminated"])),
        real_terminal_rate=float(np.mean(real["terminated"])),
        outside=outside,
    )


def _correlation_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference over the pairs of entries that vary in both."""
    vary = b.std(0) > 1e-9
    if vary.sum() < 2:
        return 1.0
    pairs = np.triu_indices(int(vary.sum()), 1)
    first, second = (np.corrcoef(m[:, vary], rowvar=False)[pairs] for m in (a, b))
    return float(np.abs(first - second).mean())


@dataclass(frozen=True)
class DynamicsError:
    """One-step error of transitions against the simulator. error: [N], RMS over entries in deviations of real s' - s."""

    error: np.ndarray
    reward_error: np.ndarray

    @property
    def median(self) -> float:
        """Of the state errors."""
        return float(np.median(self.error))


def dynamics_error(env: Any, real: Rows, rows: Rows, keys: Sequence[str], most: int = 500) -> DynamicsError:
    """Put the simulator into each s, take a, and compare its s' and r with the transition's.

    env: a task whose observations determine its state (`set_observation`). real: gives the unit, the deviation of each
    entry's change in one step. Transitions that terminate are left out, because their s' is not recorded.
    """
    unit = {
        key: np.maximum((real[f"next_{key}"] - real[key]).astype(np.float64).std(0), 1e-6) for key in keys
    }
    alive = np.flatnonzero(~np.asarray(rows["terminated"]).reshape(-1).astype(bool))[:most]
    env.reset(seed=0)
    errors, rewards = [], []
    for i in alive:
        env.unwrapped.set_observation({key: rows[key][i] for key in env.unwrapped.contract()["observations"]})
        observed, reward, *_ = env.step(np.asarray(rows["action"][i], np.float64))
        gaps = [((observed[key] - rows[f"next_{key}"][i]) / unit[key]).reshape(-1) for key in keys]
        errors.append(float(np.sqrt(np.mean(np.concatenate(gaps) ** 2))))
        rewards.append(abs(float(reward) - float(rows["reward"][i])))
    return DynamicsError(np.array(errors), np.array(rewards))
