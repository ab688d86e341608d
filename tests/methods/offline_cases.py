"""Small offline datasets whose values are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.methods.offline import OfflinePolicy
from diffbot.methods.registry import build_config, method_by_name

SMALL: dict[str, dict[str, Any]] = {
    "diffusion_ql": {
        "network_options": {"width": 32, "depth": 2, "residual": False, "time_dim": 8},
        "critic": {"width": 32, "depth": 2, "activation": "mish"},
        "candidates": 8,
    },
    "idql": {
        "network_options": {"width": 16, "blocks": 1, "time_dim": 8},
        "critic": {"width": 32},
        "candidates": 8,
    },
    "td3_bc": {"width": 32, "critic": {"width": 32}},
    "iql": {"width": 32, "critic": {"width": 32}},
}


def small(name: str, contract: Contract, seed: int = 0, **settings: Any) -> OfflinePolicy:
    policy: OfflinePolicy = method_by_name(name).cls(
        build_config(name, SMALL[name] | settings), contract, seed=seed
    )
    return policy


def offline_batch(policy: OfflinePolicy, size: int = 16, seed: int = 0) -> Batch:
    """Random transitions of the shapes that the policy trains on."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    def observe() -> dict[str, Tensor]:
        steps = policy.observation_horizon
        return {key: draw(size, steps, *policy.contract.field(key).shape) for key in policy.keys}

    horizon = policy.horizon
    return Batch(
        observe(),
        draw(size, horizon, policy.action_dim),
        torch.ones(size, horizon, dtype=torch.bool),
        rewards=draw(size, horizon),
        terminals=torch.rand(size, horizon, generator=generator) < 0.2,
        next_observations=observe(),
    )


def walk_store(
    path: Path,
    *,
    episodes: int = 6,
    steps: int = 20,
    terminated: bool = True,
    keys: tuple[str, ...] = ("reward", "terminated"),
    high: float = 1.0,
) -> EpisodeStore:
    """A point on a line that is paid for being far right; even episodes terminate, odd ones run into the time limit."""
    contract = Contract({"position": Field((1,))}, Action((1,), low=(-high,), high=(high,)), rate=10.0)
    store = EpisodeStore.create(path, contract)
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for episode in range(episodes):
            action = rng.uniform(-1, 1, (steps, 1)).astype(np.float32)
            position = np.cumsum(action, 0, dtype=np.float32) - action
            ends = np.zeros(steps, bool)
            ends[-1] = terminated and episode % 2 == 0
            arrays = {"position": position, "action": action}
            more = {"reward": position[:, 0] + action[:, 0], "terminated": ends}
            writer.append(arrays | {key: more[key] for key in keys}, {"success": True})
    return EpisodeStore.open(path, "a")
