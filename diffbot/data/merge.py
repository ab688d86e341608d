"""Several datasets into one, all of it or in given proportions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.edit import new_store
from diffbot.data.store import EpisodeStore
from diffbot.data.transitions import transition_rows
from diffbot.errors import DataError


def merge(
    sources: Sequence[EpisodeStore], path: str | Path, ratios: Sequence[float] | None = None, seed: int = 0
) -> EpisodeStore:
    """Write a new store with the episodes of all sources, one source after the other.

    ratios: how many episodes of each, in proportion; as many as possible without repeating one, drawn by `seed`. Each
    episode gets the per-episode value `source`, the number of the store it came from. Contracts and arrays must match;
    raises DataError or ContractError before anything is written. Where a source holds independent transitions (a
    synthesized dataset), all become such, and the ratios are those of steps.
    """
    if len(sources) < 2:
        raise DataError(f"merging needs two or more datasets, got {len(sources)}")
    first = sources[0]
    mixed = any(store.independent for store in sources)
    for other in sources[1:]:
        first.contract.require_match(other.contract, str(first.path.name), str(other.path.name))
        other.contract.require_match(first.contract, str(other.path.name), str(first.path.name))
        for what in () if mixed else ("keys", "meta_names"):
            mine, theirs = set(getattr(first, what)) - {"source"}, set(getattr(other, what)) - {"source"}
            if mine != theirs:
                raise DataError(
                    f"{what} differ: only {first.path.name} has {sorted(mine - theirs)}, "
                    f"only {other.path.name} has {sorted(theirs - mine)}"
                )
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(source)) for source in sources]
    if mixed:
        steps = episode_counts([source.steps for source in sources], ratios)
        counts = [_reach(s.episode_lengths[o], n) for s, o, n in zip(sources, orders, steps, strict=True)]
    else:
        counts = episode_counts([len(s) for s in sources], ratios)
    provenance: dict[str, Any] = {
        "merged": [
            {"path": s.path.name, "episodes": n, **s.provenance} for s, n in zip(sources, counts, strict=True)
        ],
        "ratios": None if ratios is None else list(ratios),
        "seed": seed,
    }
    shared = set.intersection(*(set(source.meta_names) for source in sources)) - {"source"}
    with new_store(path, first, provenance, independent=mixed) as store, store.writer() as writer:
        for number, (source, order, count) in enumerate(zip(sources, orders, counts, strict=True)):
            for index in np.sort(order[:count]):
                rows = transition_rows(source, int(index)) if mixed else source.episode(int(index))
                meta = {k: v for k, v in source.episode_meta(int(index)).items() if k in shared}
                if len(rows["action"]):
                    writer.append(rows, {**meta, "source": number})
    return EpisodeStore.open(path, "a")


def _reach(lengths: np.ndarray, steps: int) -> int:
    """How many of these episodes are needed for so many steps."""
    return min(len(lengths), int(np.searchsorted(np.cumsum(lengths), steps)) + 1) if steps else 0


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
