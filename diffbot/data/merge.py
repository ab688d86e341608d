"""Several datasets into one, all of it or in given proportions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.edit import new_store
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError


def merge(
    sources: Sequence[EpisodeStore], path: str | Path, ratios: Sequence[float] | None = None, seed: int = 0
) -> EpisodeStore:
    """Write a new store with the episodes of all sources, one source after the other.

    ratios: how many episodes of each, in proportion; as many as possible without repeating one, drawn by `seed`. Each
    episode gets the per-episode value `source`, the number of the store it came from. Contracts and arrays must match;
    raises DataError or ContractError before anything is written.
    """
    if len(sources) < 2:
        raise DataError(f"merging needs two or more datasets, got {len(sources)}")
    first = sources[0]
    for other in sources[1:]:
        first.contract.require_match(other.contract, str(first.path.name), str(other.path.name))
        other.contract.require_match(first.contract, str(other.path.name), str(first.path.name))
        for what in ("keys", "meta_names"):
            mine, theirs = set(getattr(first, what)) - {"source"}, set(getattr(other, what)) - {"source"}
            if mine != theirs:
                raise DataError(
                    f"{what} differ: only {first.path.name} has {sorted(mine - theirs)}, "
                    f"only {other.path.name} has {sorted(theirs - mine)}"
                )
    counts = episode_counts([len(s) for s in sources], ratios)
    rng = np.random.default_rng(seed)
    provenance: dict[str, Any] = {
        "merged": [
            {"path": s.path.name, "episodes": n, **s.provenance} for s, n in zip(sources, counts, strict=True)
        ],
        "ratios": None if ratios is None else list(ratios),
        "seed": seed,
    }
    with new_store(path, first, provenance) as store, store.writer() as writer:
        for number, (source, count) in enumerate(zip(sources, counts, strict=True)):
            for index in np.sort(rng.permutation(len(source))[:count]):
                writer.append(
                    source.episode(int(index)), {**source.episode_meta(int(index)), "source": number}
                )
    return EpisodeStore.open(path, "a")


def episode_counts(available: Sequence[int], ratios: Sequence[float] | None) -> list[int]:
    """The largest numbers of episodes in these proportions, each rounded down but at least 1 where its ratio is."""
    if ratios is None:
        return list(available)
    if len(ratios) != len(available) or min(ratios) < 0 or sum(ratios) <= 0 or not np.isfinite(ratios).all():
        raise DataError(
            f"{len(available)} datasets need as many ratios, not negative and not all 0; got {list(ratios)}"
        )
    scale = min(n / r for n, r in zip(available, ratios, strict=True) if r > 0)
    return [min(n, max(int(r > 0), int(r * scale + 1e-9))) for n, r in zip(available, ratios, strict=True)]
