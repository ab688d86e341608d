"""Mish in few passes against PyTorch's, in double precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from diffbot.networks.activations import mish


def test_values_and_derivatives_are_those_of_mish() -> None:
    x = torch.cat([torch.linspace(-100.0, 100.0, 4001), torch.tensor([0.0, 1e6, -1e30, 88.0, 89.0])])
    exact = x.double().requires_grad_()
    F.mish(exact).sum().backward()
    ours = x.clone().requires_grad_()
    value = mish(ours)
    value.sum().backward()
    reference = F.mish(x.double())
    torch.testing.assert_close(value.detach().double(), reference, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(mish(x).double(), reference, atol=1e-7, rtol=1e-6)
    assert ours.grad is not None and exact.grad is not None
    torch.testing.assert_close(ours.grad.double(), exact.grad, atol=1e-6, rtol=1e-5)


def test_bfloat16_is_rounded_once() -> None:
    x = torch.linspace(-30.0, 30.0, 70_001).bfloat16().requires_grad_()
    exact = x.detach().double().requires_grad_()
    value, reference = mish(x), F.mish(exact)
    value.sum().backward()
    reference.sum().backward()
    torch.testing.assert_close(value.double(), reference, atol=1e-7, rtol=2**-8)
    assert x.grad is not None and exact.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, atol=1e-6, rtol=2**-8)


def test_the_derivative_has_a_derivative() -> None:
    x = torch.randn(40, generator=torch.Generator().manual_seed(0))
    seconds = []
    for function, point in ((mish, x), (F.mish, x.double())):
        point = point.clone().requires_grad_()
        (first,) = torch.autograd.grad(function(point).sum(), point, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), point)[0].double())
    torch.testing.assert_close(seconds[0], seconds[1], atol=1e-5, rtol=1e-4)


def test_tracers_are_given_the_one_operator() -> None:
    traced = torch.jit.trace(mish, torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert "aten::mish" in str(traced.graph)
