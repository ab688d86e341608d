"""Small datasets for the tests of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore

CONTRACT = Contract({"state": Field((3,), low=(-9.0,), high=(9.0,))}, Action((2,)), 20.0, task="test")
IMAGE_CONTRACT = Contract(
    {"state": Field((3,)), "camera": Field((6, 5, 3), dtype="uint8", kind="image")},
    Action((2,)),
    20.0,
    task="test",
)


def episode(
    length: int, seed: int, contract: Contract = CONTRACT, *, terminated: bool = True
) -> dict[str, np.ndarray]:
    """Random arrays that fit the contract."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for key, field in contract.observations.items():
        if field.kind == "image":
            arrays[key] = rng.integers(0, 256, (length, *field.shape), dtype=np.uint8)
        else:
            arrays[key] = rng.normal(size=(length, *field.shape)).astype(np.float32)
    arrays["action"] = rng.normal(size=(length, *contract.action.shape)).astype(np.float32)
    arrays["reward"] = rng.normal(size=length).astype(np.float32)
    arrays["terminated"] = np.zeros(length, bool)
    arrays["terminated"][-1] = terminated
    return arrays


def make_store(path: Path, lengths: list[int], contract: Contract = CONTRACT, **options: Any) -> EpisodeStore:
    """A store of random episodes; every other one ends by a time limit."""
    store = EpisodeStore.create(path, contract, {"made": "by a test"}, **options)
    with store.writer() as writer:
        for i, length in enumerate(lengths):
            writer.append(
                episode(length, i, contract, terminated=i % 2 == 0),
                {"success": i % 2 == 0, "seed": i, "mode": f"mode {i % 3}"},
            )
    return store
