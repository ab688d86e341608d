"""The average, the learning rate and the optimiser step against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diffbot.methods.ema import EMA, EMAConfig
from diffbot.methods.learner import Learner, OptimizerConfig, load_weights
from diffbot.methods.protocol import LocalAccelerator


def linear(seed: int) -> nn.Linear:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return layer


def test_ema_is_the_weighted_sum_of_all_weights() -> None:
    """average_n = prod(d) w_0 + sum_i (1 - d_i) prod_{j>i} d_j w_i, in double precision."""
    config = EMAConfig(maximum=0.8, power=0.75)
    source, average = linear(0), linear(0)
    ema = EMA(source, average, config)
    weights = [source.weight.detach().double().clone()]
    for i in range(12):
        with torch.no_grad():
            source.weight.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(100 + i)))
        weights.append(source.weight.detach().double().clone())
        ema.update()
    decays = [min(0.8, 1 - (1 + n) ** -0.75) for n in range(12)]
    expected = math.prod(decays) * weights[0]
    for i, decay in enumerate(decays):
        expected = expected + (1 - decay) * math.prod(decays[i + 1 :]) * weights[i + 1]
    torch.testing.assert_close(average.weight.double(), expected, atol=1e-6, rtol=1e-5)


@given(st.integers(0, 10**6), st.floats(0.0, 0.9999), st.floats(0.1, 1.0))
def test_ema_warm_up(n: int, maximum: float, power: float) -> None:
    config = EMAConfig(maximum=maximum, power=power)
    assert config.decay(0) == 0.0
    assert 0.0 <= config.decay(n) <= config.decay(n + 1) <= maximum


def test_no_average_follows_exactly() -> None:
    source, average = linear(0), linear(1)
    EMA(source, average, EMAConfig(maximum=0.0)).update()
    assert torch.equal(source.weight, average.weight)


def test_rate_is_warm_up_times_cosine() -> None:
    config = OptimizerConfig(learning_rate=0.5, warmup=10)
    assert config.rate(0, 0.0) == pytest.approx(0.05)
    assert config.rate(9, 0.0) == pytest.approx(0.5)
    assert config.rate(100, 0.5) == pytest.approx(0.25)
    assert config.rate(100, 1.0) == pytest.approx(0.0)
    assert OptimizerConfig(learning_rate=0.5, warmup=0, schedule="constant").rate(3, 0.9) == 0.5


def test_step_is_clipped_adamw() -> None:
    """The first AdamW step moves each weight by lr * sign(gradient) after decay; clipping does not change the sign."""
    module = linear(0)
    config = OptimizerConfig(learning_rate=0.01, weight_decay=0.1, warmup=0, gradient_clip=0.5)
    learner = Learner(module, config, EMAConfig(maximum=0.0), LocalAccelerator())
    before = {name: p.detach().clone() for name, p in learner.online.named_parameters()}
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    loss = (100.0 * learner.online(x)).square().mean()
    metrics = learner.step(loss)
    assert float(metrics["gradient_norm"]) > 0.5
    norm = torch.stack([p.grad.norm() for p in learner.online.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)
    for name, parameter in learner.online.named_parameters():
        assert parameter.grad is not None
        expected = before[name] * (1 - 0.01 * 0.1) - 0.01 * parameter.grad.sign()
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(module.weight, learner.online.weight)  # type: ignore[arg-type]


def test_learner_state_restores_everything() -> None:
    def make() -> Learner:
        return Learner(linear(0), OptimizerConfig(warmup=3), EMAConfig(), LocalAccelerator())

    def train(learner: Learner, first: int, last: int) -> None:
        for i in range(first, last):
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(i))
            learner.step(learner.online(x).square().mean(), progress=i / 20)

    whole = make()
    train(whole, 0, 20)
    half = make()
    train(half, 0, 9)
    state = half.state()
    other = make()
    other.load_state(state)
    train(other, 9, 20)
    assert torch.equal(other.module.weight, whole.module.weight)  # type: ignore[arg-type]
    assert torch.equal(other.online.weight, whole.online.weight)  # type: ignore[arg-type]


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"lacks 'bias'.*unknown 'scale'.*'weight' of shape \[1\], needed \[2, 3\]"
    ):
        load_weights(linear(0), {"weight": torch.zeros(1), "scale": torch.zeros(1)})
