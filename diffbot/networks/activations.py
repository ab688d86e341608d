"""Mish in few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 20.0  # from here on mish(x) = x in float32, and exp(x)^4 is far from overflow
FEW = 4096  # up to so many elements the dispatch of our passes costs more than PyTorch's one slow pass
BLOCK = 1 << 16  # elements at a time, so that all passes but the first find them in the second-level cache


class Mish(nn.Module):
    """`mish` as a module; it has no weights."""

    def forward(self, x: Tensor) -> Tensor:
        return mish(x)


def mish(x: Tensor) -> Tensor:
    """x tanh(log(1 + exp x)), of x's shape (Misra 2020).

    On CPU PyTorch's own takes longer than the matrix product before it. With e = exp x and n = e (e + 2) it equals
    x n / (n + 2): one exponential, no logarithm, and the derivative comes along. Lower precisions are computed in float32
    and rounded once. Compilers and tracers, other devices and double precision are given PyTorch's.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return F.mish(x)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return F.mish(x)
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _Mish.apply(x)
        return out
    if x.dtype != torch.float32 or x.numel() <= FEW:
        return F.mish(x)
    e = x.clamp(max=LARGEST).exp_()
    n = (e + 2.0).mul_(e)
    return n.div_(n + 2.0).mul_(x)


class _Mish(torch.autograd.Function):
    """Keeps the derivative t + 4 x (n - e) / (n + 2)^2 with t = n / (n + 2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        out, derivative = torch.empty_like(x), torch.empty_like(x)
        wide = x.dtype == torch.float32
        scratch = torch.empty(1 if wide else 4, min(BLOCK, x.numel()))
        blocks = (tensor.view(-1).split(BLOCK) for tensor in (x, out, derivative))
        for given, value, slope in zip(*blocks, strict=True):
            side = scratch[:, : len(given)]
            if wide:
                _value_and_slope(given, value, slope, side[0])
            else:
                _value_and_slope(side[1].copy_(given), side[2], side[3], side[0])
                value.copy_(side[2])
                slope.copy_(side[3])
        ctx.save_for_backward(x, derivative)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, derivative = ctx.saved_tensors
        if (
            torch.is_grad_enabled()
        ):  # a derivative of the derivative is asked for, so this one must be differentiable
            ratio = F.softplus(x).tanh()
            derivative = ratio + x * x.sigmoid() * (1.0 - ratio.square())
        return grads[0] * derivative


def _value_and_slope(x: Tensor, value: Tensor, slope: Tensor, side: Tensor) -> None:
    """Write Mish of x [N] and its derivative, without taking memory; `side` is overwritten."""
    e = torch.clamp(x, max=LARGEST, out=slope).exp_()
    n = torch.add(e, 2.0, out=value).mul_(e)
    inverse = torch.add(n, 2.0, out=side).reciprocal_()
    rest = torch.sub(n, e, out=slope).mul_(inverse)
    ratio = n.mul_(inverse)
    torch.addcmul(ratio, rest, inverse.mul_(x), value=4.0, out=slope)
    ratio.mul_(x)
