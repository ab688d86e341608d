"""Value functions against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.methods.critics import (
    CriticConfig,
    Ensemble,
    ValueObjective,
    max_q_backup,
    pessimistic,
    q_loss,
    td_target,
)


def minimiser(objective: ValueObjective, samples: Tensor) -> float:
    """The constant V with the least mean of f(samples - V), by bisection on the derivative of the loss."""
    low, high = float(samples.min()) - 20.0, float(samples.max()) + 20.0
    for _ in range(80):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(objective.loss(samples - middle), middle)
        low, high = (low, middle.item()) if float(slope) > 0 else (middle.item(), high)
    return (low + high) / 2


SAMPLES = torch.tensor([-1.0, 0.0, 0.5, 2.0, 2.5], dtype=torch.float64)


def test_the_half_expectile_is_the_mean_and_the_half_quantile_the_median() -> None:
    assert minimiser(ValueObjective("expectile", 0.5), SAMPLES) == pytest.approx(float(SAMPLES.mean()))
    assert minimiser(ValueObjective("quantile", 0.5), SAMPLES) == pytest.approx(0.5, abs=1e-6)


def test_the_exponential_objective_is_the_soft_maximum() -> None:
    """f' = 0 at E exp(a (Q - V)) = 1, that is V = log E exp(a Q) / a."""
    level = 0.8
    expected = float(torch.logsumexp(level * SAMPLES, 0) - math.log(len(SAMPLES))) / level
    assert minimiser(ValueObjective("exponential", level), SAMPLES) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["expectile", "quantile"])
def test_higher_levels_give_higher_values_up_to_the_maximum(kind: str) -> None:
    values = [minimiser(ValueObjective(kind, level), SAMPLES) for level in (0.1, 0.5, 0.9, 0.999)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(2.5, abs=0.02)


@pytest.mark.parametrize(("kind", "level"), [("expectile", 0.8), ("quantile", 0.7), ("exponential", 1.2)])
def test_the_implicit_policy_has_the_learned_value(kind: str, level: float) -> None:
    """IDQL, Theorem 4.1: under behaviour times w the mean of Q - V is 0, because it is that of f'(Q - V)."""
    objective = ValueObjective(kind, level)
    value = minimiser(objective, SAMPLES)
    advantage = SAMPLES - value
    if kind == "quantile":  # there the derivative jumps at the sample that is V itself
        advantage = advantage[advantage.abs() > 1e-3]
        below, not_above = ((value + slack > SAMPLES).double().mean() for slack in (-1e-3, 1e-3))
        assert float(below) <= level <= float(not_above)
        return
    assert float((objective.weight(advantage) * advantage).sum()) == pytest.approx(0.0, abs=1e-5)


@given(st.floats(-3, 3), st.floats(0.05, 0.95))
def test_expectile_weights_and_losses(u: float, level: float) -> None:
    objective, advantage = ValueObjective("expectile", level), torch.tensor([u], dtype=torch.float64)
    weight = level if u >= 0 else 1 - level
    assert float(objective.weight(advantage)) == pytest.approx(weight)
    assert float(objective.loss(advantage)) == pytest.approx(weight * u * u)


def test_a_large_advantage_overflows_nothing() -> None:
    u = torch.tensor([1e4], requires_grad=True)
    loss = ValueObjective("exponential", 2.0).loss(u)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(u.grad).all()  # type: ignore[union-attr]


def test_targets() -> None:
    reward, next_value = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 10.0])
    discount = torch.tensor([0.9, 0.0])  # the second transition ended the task
    torch.testing.assert_close(td_target(reward, discount, next_value), torch.tensor([10.0, 2.0]))
    q = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert pessimistic(q).tolist() == [1.0, 0.0]
    assert float(q_loss(q, torch.tensor([1.0, 2.0]))) == pytest.approx((0 + 0) / 2 + (4 + 4) / 2)


@given(st.integers(0, 10**6))
@settings(max_examples=30)
def test_max_q_backup_is_no_less_than_any_plain_backup(seed: int) -> None:
    q = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(seed))
    backup = max_q_backup(q)
    assert bool((backup[:, None] >= pessimistic(q)).all())
    assert torch.equal(backup, torch.minimum(q[0].amax(1), q[1].amax(1)))


@pytest.mark.parametrize("activation", ["relu", "mish"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_an_ensemble_equals_its_members_built_of_linear_layers(activation: str, layer_norm: bool) -> None:
    config = CriticConfig(16, 2, activation, layer_norm)
    ensemble = Ensemble(5, config, 3, seed=1)
    s, a = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0)).split([7, 0], 1)[0].unbind(0)
    inputs = torch.cat([s, a[:, :2]], 1)
    together = ensemble(s, a[:, :2])
    for member in range(3):
        h = inputs
        for layer in range(3):
            linear = nn.Linear(*ensemble.weights[layer][member].shape)
            linear.weight.data = ensemble.weights[layer][member].T
            linear.bias.data = ensemble.biases[layer][member, 0]
            h = linear(h)
            if layer < 2:
                h = ensemble.norms[layer](h) if layer_norm else h
                h = nn.Mish()(h) if activation == "mish" else h.relu()
        torch.testing.assert_close(together[member], h[:, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ensemble(inputs, member=member)[0], h[:, 0], atol=1e-5, rtol=1e-5)
    candidates = torch.randn(7, 4, 2, generator=torch.Generator().manual_seed(2))
    grid = ensemble.members(s, candidates)
    assert grid.shape == (3, 7, 4)
    torch.testing.assert_close(grid[:, :, 1], ensemble(s, candidates[:, 1]), atol=1e-6, rtol=1e-5)


def test_seed_decides_the_members_and_they_differ() -> None:
    first, again, other = (Ensemble(4, CriticConfig(8), 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first.weights[0], again.weights[0])
    assert not torch.equal(first.weights[0], other.weights[0])
    assert not torch.equal(first.weights[0][0], first.weights[0][1])


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"expectil.*expectile"):
        ValueObjective("expectil", 0.5)
    with pytest.raises(ConfigError, match=r"within \(0, 1\), got 1.0"):
        ValueObjective("expectile", 1.0)
    with pytest.raises(ConfigError, match="activation"):
        CriticConfig(activation="mich")
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        CriticConfig(width=0)


def test_expectile_value_of_a_two_armed_state_by_training() -> None:
    """A linear V over one-hot states learns the expectile of each state's returns."""
    returns = torch.tensor([[0.0, 1.0], [2.0, 5.0]], dtype=torch.float64)  # [state, action]
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    objective = ValueObjective("expectile", 0.9)
    optimizer = torch.optim.SGD([weights], lr=0.5)
    for _ in range(400):
        optimizer.zero_grad()
        objective.loss(returns - weights[:, None]).backward()
        optimizer.step()
    # 0.9 (high - V) = 0.1 (V - low)
    expected = 0.9 * returns[:, 1] + 0.1 * returns[:, 0]
    torch.testing.assert_close(weights.detach(), expected, atol=1e-4, rtol=0)
