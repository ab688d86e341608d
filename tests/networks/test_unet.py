"""The temporal U-Net against PyTorch's own convolutions and the published size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffbot.errors import ConfigError
from diffbot.networks import Condition, build
from diffbot.networks.temporal import Conv, GroupNorm, Upsample


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_size_of_the_published_network():
    """Diffusion Policy, low-dimensional: two observations of 23 numbers, ten action numbers, horizon 16."""
    net = build("unet", (16, 10), 2 * 23)
    assert sum(parameter.numel() for parameter in net.parameters()) == 65_883_658


@pytest.mark.parametrize("kernel,stride", [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_convolution_equals_pytorch(kernel, stride):
    conv = Conv(4, 6, kernel, "linear", stride).double()
    x = rand(2, 8, 4)
    expected = F.conv1d(x.mT, conv.weight.transpose(1, 2), conv.bias, stride=stride, padding=kernel // 2)
    torch.testing.assert_close(conv(x), expected.mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_upsampling_equals_pytorch(length):
    up = Upsample(4, "linear").double()
    x = rand(2, length, 4)
    expected = F.conv_transpose1d(x.mT, up.weight.permute(2, 0, 1), up.bias, stride=2, padding=1)
    torch.testing.assert_close(up(x), expected.mT, rtol=0, atol=1e-12)


def test_group_norm_equals_pytorch():
    norm = GroupNorm(2, 6, "linear").double()
    norm.weight.data, norm.bias.data = rand(6, seed=1), rand(6, seed=2)
    x = rand(3, 5, 6)
    expected = F.group_norm(x.mT, 2, norm.weight, norm.bias)
    torch.testing.assert_close(norm(x), expected.mT, rtol=0, atol=1e-12)


def test_both_layouts_are_one_function_and_share_weights():
    options = {"name": "unet", "down_dims": (16, 32, 64), "groups": 4, "time_dim": 16}
    linear = build({**options, "layout": "linear"}, (8, 3), 5, local_dim=2).double()
    conv = build({**options, "layout": "conv1d"}, (8, 3), 5, local_dim=2).double()
    conv.load_state_dict(linear.state_dict())
    x, t = rand(4, 8, 3), torch.linspace(0, 1, 4, dtype=torch.float64)
    condition = Condition(rand(4, 5), rand(4, 8, 2))
    outputs = [net(x, t, condition) for net in (linear, conv)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    for out in outputs:
        out.square().sum().backward()
    gradients = zip(linear.parameters(), conv.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, rtol=1e-9, atol=1e-10) for a, b in gradients)


@pytest.mark.parametrize("length,nearest", [(15, 16), (17, 16), (2, 4), (10, 12)])
def test_a_horizon_that_does_not_fit_names_the_nearest(length, nearest):
    with pytest.raises(ConfigError, match=rf"horizon {length} .* multiple of 4. Nearest: {nearest}"):
        build("unet", (length, 3))
    net = build({"name": "unet", "down_dims": (8, 8, 8)}, (16, 3))
    with pytest.raises(ConfigError, match=f"Nearest: {nearest}"):
        net(torch.zeros(1, length, 3), torch.zeros(1))


def test_another_length_than_the_one_built_for():
    net = build({"name": "unet", "down_dims": (8, 16)}, (16, 3))
    assert net(torch.zeros(2, 32, 3), torch.zeros(2)).shape == (2, 32, 3)


def test_wrong_widths_are_refused():
    with pytest.raises(ConfigError, match="multiples of groups=8"):
        build({"name": "unet", "down_dims": (12,)}, (16, 3))
    with pytest.raises(ConfigError, match="unknown convolution layout 'conv'"):
        build({"name": "unet", "layout": "conv"}, (16, 3))


def test_discrete_time_embedding():
    """t = k / 100 gives the sinusoidal embedding of step k."""
    net = build("unet", (16, 3))
    k = torch.tensor([0.0, 7.0, 99.0])
    embedding = net.time[0](k / 100)
    frequencies = 10_000 ** (-torch.arange(128) / 127)
    expected = torch.cat([torch.sin(k[:, None] * frequencies), torch.cos(k[:, None] * frequencies)], dim=1)
    torch.testing.assert_close(embedding, expected, rtol=0, atol=2e-5)


def test_bfloat16_autocast_stays_close():
    net = build({"name": "unet", "down_dims": (32, 64)}, (16, 3), 4)
    x, condition = rand(4, 16, 3).float(), Condition(rand(4, 4).float())
    exact = net(x, torch.full((4,), 0.5), condition)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x, torch.full((4,), 0.5), condition)
    assert (rough - exact).norm() / exact.norm() < 0.05
