"""Properties that every registered network has."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from network_cases import SMALL, TOKENS, C, D, T, make
from torch import nn

from diffbot.errors import ConfigError
from diffbot.networks import NETWORKS, Condition, build, network_by_name, network_config

every = pytest.mark.parametrize("name", sorted(NETWORKS))


def test_the_small_options_cover_every_network():
    assert set(SMALL) == set(NETWORKS)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_those_of_x(name, dtype):
    case = make(name, dtype=dtype)
    out = case.net(case.x, case.t, case.condition)
    assert out.shape == case.x.shape and out.dtype == dtype
    assert torch.isfinite(out).all()


@every
def test_every_parameter_receives_a_gradient(name):
    case = make(name)
    case.net(case.x, case.t, case.condition).square().sum().backward()
    without = [n for n, p in case.net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@every
def test_time_and_every_condition_part_matter(name):
    case = make(name)
    out = case.net(case.x, case.t, case.condition)
    assert not torch.allclose(out, case.net(case.x, 1.0 - case.t, case.condition))
    for part, tensor in case.condition.present().items():
        changed = dataclasses.replace(case.condition, **{part: tensor + 1.0})
        assert not torch.allclose(out, case.net(case.x, case.t, changed)), part


@every
def test_rows_do_not_depend_on_each_other(name):
    case = make(name)
    whole = case.net(case.x, case.t, case.condition)
    rows = [
        case.net(case.x[i : i + 1], case.t[i : i + 1], case.condition[i : i + 1]) for i in range(len(case.x))
    ]
    torch.testing.assert_close(torch.cat(rows), whole, rtol=0, atol=1e-12)


@every
def test_the_generator_alone_decides_the_initial_weights(name):
    torch.manual_seed(1)
    first = make(name, seed=3).net.state_dict()
    before = torch.random.get_rng_state()
    torch.manual_seed(2)
    second = make(name, seed=3).net.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = make(name, seed=4).net.state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)
    torch.manual_seed(1)
    make(name)
    assert torch.equal(torch.random.get_rng_state(), before)


@every
def test_precomputed_steps_equal_the_call(name):
    case = make(name)
    times = torch.tensor([0.9, 0.4, 0.05], dtype=torch.float64)
    cache = case.net.precompute(times, case.condition)
    for index, t in enumerate(times):
        torch.testing.assert_close(
            case.net.step(case.x, index, cache), case.net(case.x, t, case.condition), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("name", ["dit", "layer_norm_mlp", "mlp", "unet"])
def test_modulated_is_the_call_in_tensors_alone(name):
    net = build({"name": name, **SMALL[name]}, (T, C), D).double().eval()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=g, dtype=torch.float64)
    x = torch.randn(3, T, C, generator=g, dtype=torch.float64)
    condition = Condition(torch.randn(3, D, generator=g, dtype=torch.float64))
    times = torch.tensor([0.7, 0.1], dtype=torch.float64)
    cache = net.precompute(times, condition)
    for index, t in enumerate(times):
        expected = net(x, t, condition)
        torch.testing.assert_close(net.modulated(x, cache.modulation(index)), expected, rtol=0, atol=1e-12)


@every
def test_without_a_condition(name):
    shape = (TOKENS, T, C) if 3 in network_by_name(name).ranks else (T, C)
    net = build({"name": name, **SMALL[name]}, shape).eval()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.8])
    out = net(x, t)
    assert out.shape == x.shape
    cache = net.precompute(t, None)
    torch.testing.assert_close(net.step(x, 1, cache), net(x, t[1]))


@every
def test_training_is_repeatable_and_copies_are_equal(name):
    case = make(name)
    twin = copy.deepcopy(case.net).train()
    case.net.train()
    first = [case.net(case.x, case.t, case.condition) for _ in range(2)]
    second = [twin(case.x, case.t, case.condition) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every
def test_no_batch_normalisation(name):
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in make(name).net.modules())


@every
def test_wrong_shapes_are_refused(name):
    case = make(name)
    with pytest.raises(ConfigError, match="was built for x of shape"):
        case.net(case.x[..., :-1], case.t, case.condition)
    with pytest.raises(ConfigError, match=r"t must have shape \[3\]"):
        case.net(case.x, case.t[:2], case.condition)
    with pytest.raises(ConfigError, match=f"'global_' of width {D}"):
        case.net(case.x, case.t, None)
    with pytest.raises(ConfigError, match="batch 3 but condition part"):
        case.net(case.x, case.t, case.condition[:2])


def test_unknown_names_give_the_nearest_match():
    with pytest.raises(ConfigError, match="Did you mean 'unet'"):
        network_by_name("unett")
    with pytest.raises(ConfigError, match="Did you mean 'width'"):
        network_config("mlp", {"widht": 3})
    with pytest.raises(ConfigError, match="needs a 'name'"):
        build({"width": 3}, (4, 2))
    with pytest.raises(ConfigError, match="not the Config of a network"):
        build(3, (4, 2))


def test_a_condition_part_that_a_network_does_not_read_is_refused():
    with pytest.raises(ConfigError, match="does not read condition part 'tokens'"):
        build("mlp", (4, 2), token_dim=3)
    with pytest.raises(ConfigError, match=r"denoises data of shape \(T, C\)"):
        build("unet", (4,))


@pytest.mark.parametrize("name", ["mlp", "layer_norm_mlp", "mlp_sieve"])
def test_single_vectors(name):
    net = build({"name": name, **SMALL[name]}, (6,), 4)
    assert net(torch.zeros(5, 6), torch.rand(5), Condition(torch.ones(5, 4))).shape == (5, 6)


def test_a_generator_gives_each_network_its_own_weights():
    g = torch.Generator().manual_seed(0)
    first, second = (build("mlp", (4,), generator=g) for _ in range(2))
    assert not torch.equal(first.outer.weight, second.outer.weight)
