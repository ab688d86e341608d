"""What all imitation policies promise, tried on each of them."""

from __future__ import annotations

import pytest
import torch
from small_policies import make, make_batch

from diffbot.data.contract import Contract
from diffbot.errors import ConfigError
from diffbot.methods.imitation import ImitationPolicy
from diffbot.methods.protocol import Method, Prefix
from diffbot.methods.registry import methods

SMALL = {
    "diffusion_policy": {"network_options": {"width": 64}, "horizon": 8, "action_horizon": 4},
    "bc_mlp": {"width": 32, "horizon": 4, "action_horizon": 2},
    "bc_gmm": {"width": 32, "horizon": 4, "action_horizon": 2},
    "lstm_gmm": {"width": 16, "observation_horizon": 3, "sequence": 4},
    "bc_transformer": {"width": 32, "layers": 2, "horizon": 8},
    "diffuser": {
        "network": "mlp",
        "network_options": {"width": 64},
        "guide_dims": [8],
        "horizon": 8,
        "action_horizon": 4,
        "inference_steps": 5,
    },
    "decision_diffuser": {
        "network": "mlp",
        "network_options": {"width": 64},
        "horizon": 8,
        "action_horizon": 4,
        "inference_steps": 5,
    },
}
NAMES = tuple(SMALL)


def small(name: str, contract: Contract, seed: int = 0) -> ImitationPolicy:
    return make(name, contract, seed, **SMALL[name])


def observe(policy: ImitationPolicy, size: int = 3, seed: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(
            size, policy.observation_horizon, *policy.contract.field(key).shape, generator=generator
        )
        for key in policy.keys
    }


@pytest.mark.parametrize("name", NAMES)
def test_acts_in_shape_and_repeatably(name: str, contract: Contract) -> None:
    policy = small(name, contract)
    assert isinstance(policy, Method)
    observation = observe(policy)
    chunks = [policy.act(observation, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert chunks[0].shape == (3, policy.horizon, 2)
    assert torch.equal(chunks[0], chunks[1])
    assert policy.action_horizon <= policy.horizon


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides_the_weights_and_nothing_else_is_drawn(name: str, contract: Contract) -> None:
    before = torch.random.get_rng_state()
    states = [small(name, contract, seed).policy_state() for seed in (0, 0, 1)]
    policy = small(name, contract)
    policy.begin_training(seed=4)
    policy.update(make_batch(policy))
    policy.act(observe(policy), generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator was used"
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize("name", NAMES)
def test_overfits_a_batch(name: str, contract: Contract) -> None:
    policy = small(name, contract)
    policy.begin_training(seed=0)
    batch = make_batch(policy)
    start = float(policy.validate(batch, torch.Generator().manual_seed(3))["loss"])
    for _ in range(400):
        policy.update(batch)
    end = float(policy.validate(batch, torch.Generator().manual_seed(3))["loss"])
    assert end < start - 0.3 * abs(start)


@pytest.mark.parametrize("name", NAMES)
def test_training_state_continues_exactly(name: str, contract: Contract) -> None:
    whole, half, other = (small(name, contract) for _ in range(3))
    whole.begin_training(seed=1)
    half.begin_training(seed=1)
    other.begin_training(seed=8)
    for i in range(8):
        losses = whole.update(make_batch(whole, seed=i), progress=i / 8)
    for i in range(4):
        half.update(make_batch(half, seed=i), progress=i / 8)
    other.load_training_state(half.training_state())
    for i in range(4, 8):
        again = other.update(make_batch(other, seed=i), progress=i / 8)
    assert float(losses["loss"]) == float(again["loss"])
    ours, theirs = other.policy_state(), whole.policy_state()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_prefix_is_kept(name: str, contract: Contract) -> None:
    policy = small(name, contract)
    actions = torch.rand(3, policy.horizon, 2, generator=torch.Generator().manual_seed(2)) - 0.5
    weights = torch.zeros(policy.horizon)
    weights[: max(1, policy.horizon // 2)] = 1.0
    chunk = policy.act(
        observe(policy), generator=torch.Generator().manual_seed(0), prefix=Prefix(actions, weights)
    )
    kept = weights.bool()
    torch.testing.assert_close(chunk[:, kept], actions[:, kept], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_key_is_named(name: str, contract: Contract) -> None:
    policy = small(name, contract)
    observation = observe(policy)
    observation.pop("goal")
    with pytest.raises((ConfigError, KeyError), match="goal"):
        policy.act(observation, generator=torch.Generator())


def test_every_imitation_method_of_this_room_is_tried() -> None:
    own = {"P1", "P2", "P3", "Q17"}
    assert {entry.name for entry in methods().values() if entry.system in own} >= set(NAMES)
