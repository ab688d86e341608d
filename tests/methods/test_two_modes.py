"""Demonstrations go left or right. Policies that model a distribution do either; a regression goes straight on."""

from __future__ import annotations

import pytest
import torch
from small_policies import make

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.methods.protocol import Prefix

MODE = 0.7


def two_modes(horizon: int, steps: int, size: int, seed: int) -> Batch:
    """Chunks that stay at +MODE or -MODE (in x; y is 0.2), whatever the observation."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.randint(2, (size, 1, 1), generator=generator) * 2.0 - 1.0
    actions = torch.cat([side * MODE, torch.full_like(side, 0.2)], -1).expand(size, horizon, 2)
    observations = {
        "position": torch.rand(size, steps, 2, generator=generator) * 2 - 1,
        "goal": torch.zeros(size, steps, 1),
    }
    return Batch(observations, actions.contiguous(), torch.ones(size, horizon, dtype=torch.bool))


def trained(name: str, contract: Contract, updates: int, **settings: object):  # type: ignore[no-untyped-def]
    policy = make(name, contract, horizon=4, action_horizon=2, **settings)
    policy.begin_training(seed=0)
    for i in range(updates):
        policy.update(two_modes(4, policy.observation_horizon, 128, i), progress=i / updates)
    return policy


def samples(policy) -> torch.Tensor:  # type: ignore[no-untyped-def]
    batch = two_modes(4, policy.observation_horizon, 400, 10_000)
    return policy.act(batch.observations, generator=torch.Generator().manual_seed(0))


FAST = {"observation_horizon": 1, "optimizer": {"learning_rate": 3e-3}, "ema": {"maximum": 0.99}}
NOISE = {**FAST, "network_options": {"width": 256}}
SAMPLE = {**FAST, "network_options": {"width": 128}, "prediction": "sample"}
FLOW = {**NOISE, "schedule": "rectified_flow", "prediction": "velocity", "solver": "euler"}


@pytest.mark.parametrize(
    ("name", "settings", "updates"),
    [
        ("diffusion_policy", SAMPLE, 1000),
        pytest.param("diffusion_policy", NOISE, 1800, marks=pytest.mark.slow),
        pytest.param("diffusion_policy", FLOW, 1800, marks=pytest.mark.slow),
        ("bc_gmm", {"width": 64}, 250),
    ],
)
def test_both_modes_are_hit(name: str, settings: dict[str, object], updates: int, contract: Contract) -> None:
    chunks = samples(trained(name, contract, updates, **settings))
    right = chunks[:, :, 0] > 0
    assert (right.all(1) | (~right).all(1)).float().mean() > 0.97, "a chunk changes sides"
    share = float(right[:, 0].float().mean())
    assert 0.35 < share < 0.65
    near = (chunks[:, :, 0].abs() - MODE).abs() < 0.15
    assert float(near.float().mean()) > 0.85
    assert float((chunks[:, :, 1] - 0.2).abs().mean()) < 0.06


def test_a_chunk_goes_on_on_the_side_of_its_committed_prefix(contract: Contract) -> None:
    """Real-time chunking: the free steps learn of the frozen one, where each side alone would be drawn half of the time."""
    policy = trained("diffusion_policy", contract, 1000, **SAMPLE)
    batch = two_modes(4, policy.observation_horizon, 400, 10_000)
    known = torch.zeros(400, 4, 2)
    known[:, :, 0], known[:, :, 1] = -MODE, 0.2
    prefix = Prefix(known, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    with torch.no_grad():
        chunks = policy.act(batch.observations, generator=torch.Generator().manual_seed(0), prefix=prefix)
    torch.testing.assert_close(chunks[:, 0], known[:, 0])
    left = chunks[:, 1:, 0] < 0
    assert float(left.float().mean()) > 0.9, "keeping the frozen step alone gives 0.69"


def test_regression_goes_between_the_modes(contract: Contract) -> None:
    chunks = samples(trained("bc_mlp", contract, 150, width=64))
    assert float(chunks[:, :, 0].abs().mean()) < 0.2
