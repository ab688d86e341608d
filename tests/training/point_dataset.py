"""A small dataset: a point that is driven to the origin, 12 episodes of 30 steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore


def make_dataset(path: Path, episodes: int = 12, steps: int = 30, seed: int = 0) -> Path:
    contract = Contract(
        {"position": Field((2,)), "goal": Field((2,))},
        Action((2,), meaning="delta"),
        rate=10.0,
        task="toy/point",
    )
    store = EpisodeStore.create(path, contract)
    rng = np.random.default_rng(seed)
    with store.writer() as writer:
        for _ in range(episodes):
            position, goal = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2)
            rows: dict[str, list[np.ndarray]] = {"position": [], "goal": [], "action": []}
            for _ in range(steps):
                action = 0.3 * (goal - position) + 0.02 * rng.normal(size=2)
                for key, value in (("position", position), ("goal", goal), ("action", action)):
                    rows[key].append(value.astype(np.float32))
                position = position + action
            writer.append({key: np.stack(values) for key, values in rows.items()}, {"success": True})
    return path
