"""Small policies and batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.methods.imitation import ImitationPolicy
from diffbot.methods.registry import build_config, method_by_name


def make(name: str, contract: Contract, seed: int = 0, **settings: Any) -> ImitationPolicy:
    return method_by_name(name).cls(build_config(name, settings), contract, seed=seed)


def make_batch(policy: Any, size: int = 6, seed: int = 0) -> Batch:
    """Random data of the shapes that the policy trains on."""
    spec = type(policy).window(policy.config, policy.contract)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    observations = {
        key: draw(size, spec.observation_steps, *policy.contract.field(key).shape) for key in policy.keys
    }
    mask = torch.ones(size, spec.horizon, dtype=torch.bool)
    actions = draw(size, spec.horizon, policy.contract.action.size)
    return Batch(observations, actions, mask, returns=draw(size) if spec.returns else None)
