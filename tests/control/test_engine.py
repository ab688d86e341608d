"""Every back end computes what the network computes."""

import importlib.util

import numpy as np
import pytest
import torch
from control_cases import RATE, make_contract, make_policy, observe

from diffbot.control import PolicyRunner
from diffbot.control.engine import accelerate, choose_backend
from diffbot.control.engine.install import networks_of
from diffbot.errors import ConfigError
from diffbot.methods.protocol import Prefix
from diffbot.networks import Condition

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="extra 'openvino'")
FAST = [
    pytest.param("eager", 1e-5),
    pytest.param("openvino", 1e-4, marks=needs_openvino),
    pytest.param("openvino-bf16", 0.1, marks=needs_openvino),
    pytest.param("openvino-int8", 0.1, marks=needs_openvino),
    pytest.param("compile", 1e-4, marks=pytest.mark.slow),
]


def batch(policy, size=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {k: f.shape for k, f in policy.contract.observations.items()}
    return {k: torch.randn(size, 2, *shape, generator=generator) for k, shape in shapes.items()}


def act(policy, observation, prefix=None):
    with torch.inference_mode():
        return policy.method.act(observation, generator=torch.Generator().manual_seed(5), prefix=prefix)


@pytest.mark.parametrize("network", ["unet", "mlp"])
@pytest.mark.parametrize(("backend", "tolerance"), FAST)
def test_same_chunk_as_the_plain_network(network, backend, tolerance):
    policy = make_policy(make_contract(), network, None if network == "unet" else {"width": 256, "depth": 3})
    prefix = Prefix(torch.zeros(1, policy.method.horizon, 4), torch.linspace(1, 0, policy.method.horizon))
    plain = [act(policy, batch(policy, seed=s), p) for s in range(2) for p in (None, prefix)]
    engines = accelerate(policy.method, backend, CPU)
    assert len(engines) == 1
    fast = [act(policy, batch(policy, seed=s), p) for s in range(2) for p in (None, prefix)]
    for a, b in zip(plain, fast, strict=True):
        assert (a - b).abs().max() <= tolerance
    assert len(engines[0]._steps) == 1


def test_batches_and_gradients_still_work(policy):
    plain = act(policy, batch(policy, 3))
    accelerate(policy.method, "eager", CPU)
    torch.testing.assert_close(act(policy, batch(policy, 3)), plain, atol=1e-5, rtol=1e-5)
    network = next(networks_of(policy.method))
    x = torch.randn(2, 16, 4, requires_grad=True)
    condition = Condition(torch.randn(2, network.sizes.condition_dim))
    network(x, torch.tensor([0.2, 0.7]), condition).sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0


def test_differing_times_in_one_batch(policy):
    network = next(networks_of(policy.method))
    condition = Condition(torch.randn(2, network.sizes.condition_dim))
    x, t = torch.randn(2, 16, 4), torch.tensor([0.2, 0.7])
    with torch.inference_mode():
        plain = network(x, t, condition)
        accelerate(policy.method, "eager", CPU)
        torch.testing.assert_close(network(x, t, condition), plain)


@needs_openvino
def test_new_weights_are_seen(policy):
    """A back end copies weights; after training has changed them the next chunk uses the new ones."""
    accelerate(policy.method, "openvino", CPU)
    old = act(policy, batch(policy))
    network = next(networks_of(policy.method))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5)
    new = act(policy, batch(policy))
    accelerate(policy.method, "eager", CPU)
    torch.testing.assert_close(new, act(policy, batch(policy)), atol=1e-4, rtol=0)
    assert not torch.allclose(old, new, atol=1e-3)


def test_condition_is_computed_once_per_chunk(policy):
    network = next(networks_of(policy.method))
    calls = []
    original = network.precompute

    def counted(times, condition):
        calls.append(condition is not None)
        return original(times, condition)

    network.precompute = counted
    accelerate(policy.method, "eager", CPU)
    for seed in range(3):
        act(policy, batch(policy, seed=seed))
    assert calls.count(True) == 3
    assert calls.count(False) == policy.config.inference_steps


def test_after_warm_up_no_new_shape_is_built(policy, contract):
    runner = PolicyRunner(policy, backend="eager")
    runner.warm_up()
    runner.observe(observe(contract, 0), 1.0 / RATE)
    first = runner.infer().actions
    act(policy, batch(policy, 4))
    assert [len(e._steps) for e in runner.engines] == [1]
    assert np.isfinite(first).all()


def test_unknown_backend_is_named():
    with pytest.raises(ConfigError, match="Did you mean 'openvino'"):
        choose_backend("opnvino", CPU)
    with pytest.raises(ConfigError, match="CUDA"):
        policy = make_policy(make_contract())
        accelerate(policy.method, "cudagraph", CPU)
        act(policy, batch(policy))
