"""Neighbours gathered for convolutions as matrix products: against padding and slicing, and its derivatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffbot.networks.temporal import Conv, Upsample, shifted


def sliced(x: Tensor, offsets: tuple[int, ...], stride: int) -> Tensor:
    reach = max(abs(o) for o in offsets)
    padded = F.pad(x, (0, 0, reach, reach))
    return torch.cat([padded[:, reach + o : reach + o + x.shape[1] : stride] for o in offsets], dim=-1)


@pytest.mark.parametrize("offsets", [(-2, -1, 0, 1, 2), (-1, 0), (0, 1), (-4, 0, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_equals_padding_and_slicing(offsets: tuple[int, ...], stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 3, 5, 8):
        x = torch.randn(2, length, 3, dtype=torch.float64, generator=generator).requires_grad_()
        ours, theirs = shifted(x, offsets, stride), sliced(x, offsets, stride)
        assert torch.equal(ours, theirs)
        weight = torch.randn(ours.shape, dtype=torch.float64, generator=generator)
        (ours_grad,), (theirs_grad,) = (torch.autograd.grad(y, x, weight) for y in (ours, theirs))
        torch.testing.assert_close(ours_grad, theirs_grad, atol=1e-14, rtol=0)


def test_second_derivative() -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda y: shifted(y, (-1, 0, 2)) ** 2, x)


@pytest.mark.parametrize(
    "make",
    [
        lambda layout: Conv(6, 4, 5, layout),
        lambda layout: Conv(6, 6, 3, layout, 2),
        lambda layout: Upsample(6, layout),
    ],
)
def test_layouts_agree_in_value_and_gradient(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    linear, conv = make("linear"), make("conv1d")
    conv.load_state_dict(linear.state_dict())
    x = torch.randn(3, 8, 6)
    y, z = linear(x), conv(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(y, z, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(y)
    ours = torch.autograd.grad(y, list(linear.parameters()), weight)
    theirs = torch.autograd.grad(z, list(conv.parameters()), weight)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
