"""Episodes as independent transitions (s, a, r, s', d): rows that carry their own next observation."""

from __future__ import annotations

import numpy as np

from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError

TRANSITION_KEYS = ("action", "reward", "terminated")


def transition_rows(store: EpisodeStore, index: int) -> dict[str, np.ndarray]:
    """One episode of a store as the arrays of an independent one: observations, `next_<key>`, action, reward, terminated.

    A row that a time limit cut off has no next observation and is left out. A row that terminated keeps its own
    observation as the next one, which no learner looks at. Raises DataError where rewards or terminations are missing.
    """
    missing = [key for key in ("reward", "terminated") if key not in store.keys]
    if missing:
        raise DataError(
            f"'{store.path.name}' has no array '{missing[0]}', so its steps are no transitions. Record it anew with rewards "
            "and terminations (diffbot collect does)"
        )
    observed = tuple(store.contract.observations)
    if store.independent:
        return store.episode(index, (*observed, *(f"next_{key}" for key in observed), *TRANSITION_KEYS))
    rows = store.episode(index, (*observed, *TRANSITION_KEYS))
    count = len(rows["action"])
    kept = count if bool(rows["terminated"][-1]) else count - 1
    following = {f"next_{key}": np.concatenate([rows[key][1:], rows[key][-1:]]) for key in observed}
    return {key: value[:kept] for key, value in {**rows, **following}.items()}


def into_range(action: np.ndarray, contract: Contract) -> tuple[np.ndarray, float]:
    """Actions [N, ...] within the contract, and the part of them that was more than 5 % of the range beyond it."""
    spec = contract.action
    if spec.low is None or spec.high is None:
        return action, 0.0
    low, high = (np.broadcast_to(np.asarray(bound), spec.shape) for bound in (spec.low, spec.high))
    slack = 0.05 * (high - low)
    outside = ((action < low - slack) | (action > high + slack)).reshape(len(action), -1).any(1)
    return np.clip(action, low, high), float(outside.mean())
