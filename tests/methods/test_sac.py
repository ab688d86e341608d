"""SAC against closed forms: the density of its actions, its targets, its temperature, and the optimum of a bandit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from offline_cases import offline_batch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from diffbot.data.batch import Batch
from diffbot.data.contract import Action, Contract, Field
from diffbot.errors import ConfigError
from diffbot.methods.baselines.sac import SAC, TanhGaussian, Temperature, squashed_log_density
from diffbot.methods.offline import DivergedCriticError, Transitions
from diffbot.methods.protocol import Method
from diffbot.methods.registry import build_config

CONTRACT = Contract({"position": Field((2,)), "goal": Field((1,))}, Action((2,)), rate=10.0)
SMALL = {"width": 32, "critic": {"width": 32}}


def sac(contract: Contract = CONTRACT, **settings: Any) -> SAC:
    method = SAC(build_config("sac", SMALL | settings), contract, seed=0)
    method.begin_training(seed=1)
    return method


def transitions(method: SAC, discount: float, seed: int = 0) -> Transitions:
    data = method.transitions(offline_batch(method, seed=seed))
    return data._replace(discount=torch.full_like(data.discount, discount))


def test_density_is_that_of_the_transformed_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    actor = TanhGaussian(3, 16, 1, 2).double()
    state = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    mean, log_std = actor(state)
    noise = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    u = mean + log_std.exp() * noise
    law = Independent(TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)]), 1)
    expected = law.log_prob(torch.tanh(u))
    torch.testing.assert_close(squashed_log_density(u, noise, log_std), expected, rtol=1e-9, atol=1e-9)


def test_density_is_finite_where_tanh_is_one() -> None:
    u = torch.tensor([[40.0], [-40.0]], requires_grad=True)
    density = squashed_log_density(u, torch.zeros(2, 1), torch.zeros(2, 1))
    # log(1 - tanh(u)^2) -> log 4 - 2 |u|
    expected = -0.5 * math.log(2 * math.pi) - math.log(4.0) + 80.0
    torch.testing.assert_close(density, torch.full((2,), expected))
    density.sum().backward()
    assert u.grad is not None and torch.isfinite(u.grad).all()


def test_density_integrates_to_one() -> None:
    a = torch.linspace(-1 + 1e-6, 1 - 1e-6, 20001, dtype=torch.float64)
    u, log_std = torch.atanh(a)[:, None], torch.full((20001, 1), -0.4, dtype=torch.float64)
    density = squashed_log_density(u, (u - 0.3) / log_std.exp(), log_std).exp()
    assert float(torch.trapezoid(density, a)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("entropy", "grows"), [(-5.0, True), (3.0, False)])
def test_temperature_grows_while_the_entropy_is_below_its_target(entropy: float, grows: bool) -> None:
    temperature = Temperature(0.5)
    temperature.loss(torch.full((8,), -entropy), target_entropy=-2.0).backward()
    assert temperature.log.grad is not None
    # d/d(log alpha) of alpha (entropy - target)
    assert float(temperature.log.grad) == pytest.approx(0.5 * (entropy + 2.0))
    assert (float(temperature.log.grad) < 0) == grows


def test_target_is_the_soft_value_behind_the_transition() -> None:
    method = sac(temperature=0.3)
    data = transitions(method, 0.9)
    state = method.generator.get_state()
    found = method.target(data)
    method.generator.set_state(state)
    action, density = method.online("actor").sample(data.next_state, method.generator)
    q = method.acting("critic")(data.next_state, action)
    expected = data.reward + 0.9 * (torch.minimum(q[0], q[1]) - 0.3 * density)
    torch.testing.assert_close(found, expected)


def test_a_termination_ends_the_value() -> None:
    method = sac()
    data = transitions(method, 0.0)
    torch.testing.assert_close(method.target(data), data.reward)


def test_target_network_follows_by_tau_and_the_actor_at_once() -> None:
    method = sac(target_rate=0.01)
    before = {name: value.clone() for name, value in method.policy_state().items()}
    method.update(offline_batch(method))
    for name, value in method.policy_state().items():
        part, _, key = name.partition(".")
        online = method.online(part).state_dict()[key]
        assert not torch.equal(online, before[name]), f"{name} was not trained"
        rate = 0.01 if part == "critic" else 1.0
        torch.testing.assert_close(value, torch.lerp(before[name], online, rate))


def test_actor_waits_for_its_turn() -> None:
    method = sac(policy_every=3)
    seen = []
    for i in range(6):
        before = method.online("actor").network[0].weight.clone()
        method.update(offline_batch(method, seed=i))
        seen.append(not torch.equal(before, method.online("actor").network[0].weight))
    assert seen == [True, False, False, True, False, False]


def test_training_state_continues_exactly_and_draws_from_its_own_generator() -> None:
    before = torch.random.get_rng_state()
    whole, half = sac(policy_every=2), sac(policy_every=2)
    for i in range(6):
        expected = whole.update(offline_batch(whole, seed=i))
    for i in range(3):
        half.update(offline_batch(half, seed=i))
    other = sac(policy_every=2)
    other.load_training_state(half.training_state())
    for i in range(3, 6):
        again = other.update(offline_batch(other, seed=i))
    assert {k: float(v) for k, v in expected.items()} == {k: float(v) for k, v in again.items()}
    ours, theirs = other.policy_state(), whole.policy_state()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator was used"


def test_acts_by_its_mean_and_explores_around_it() -> None:
    method = sac()
    assert isinstance(method, Method)
    observation = offline_batch(method).observations
    acted = [method.act(observation, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    assert acted[0].shape == (16, 1, 2) and torch.equal(*acted)
    first, again, other = (
        method.explore(observation, generator=torch.Generator().manual_seed(i)) for i in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float(first.abs().max()) < 1.0


@pytest.mark.slow
def test_finds_the_best_action_of_a_bandit() -> None:
    """r = -4 (a - 0.5)^2 and the episode ends: the mean goes to 0.5, the entropy to its target.

    A normal of entropy -1 has the deviation 0.09, which is that of exp(-4 (a - 0.5)^2 / alpha) for alpha = 0.063.
    """
    contract = Contract({"x": Field((1,))}, Action((1,)), rate=1.0)
    fast = {"learning_rate": 3e-3, "weight_decay": 0.0, "betas": (0.9, 0.999), "warmup": 0}
    fast |= {"schedule": "constant", "gradient_clip": 0.0}
    method = sac(contract, optimizer=fast, critic_optimizer=fast, temperature_optimizer=fast, temperature=0.1)
    rng = np.random.default_rng(0)
    for _ in range(400):
        action = torch.from_numpy(rng.uniform(-1, 1, (128, 1, 1)).astype(np.float32))
        state = {"x": torch.zeros(128, 1, 1)}
        ended = torch.ones(128, 1, dtype=torch.bool)
        reward = -4.0 * (action[..., 0] - 0.5).square()
        batch = Batch(state, action, ended, rewards=reward, terminals=ended, next_observations=state)
        method.update(batch)
    one = {"x": torch.zeros(4000, 1, 1)}
    assert float(method.act(one, generator=torch.Generator())[0]) == pytest.approx(0.5, abs=0.1)
    _, density = method.acting("actor").sample(torch.zeros(4000, 1), torch.Generator().manual_seed(0))
    assert float(-density.mean()) == pytest.approx(-1.0, abs=0.25)


def test_a_diverging_critic_is_named() -> None:
    method = sac(check_every=1)
    method.update(offline_batch(method))
    with torch.no_grad():
        method.online("critic").biases[-1].add_(1e4)
    with pytest.raises(DivergedCriticError, match=r"\|Q\| reached .* by step 2"):
        method.update(offline_batch(method))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"temperature": 0.0}, "temperature must be positive"), ({"policy_every": 0}, "at least 1")],
)
def test_bad_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_config("sac", settings)
