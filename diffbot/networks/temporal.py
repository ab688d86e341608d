"""Convolutions over time in two layouts that compute the same function.

"linear" keeps [B, T, C] and writes every convolution as one matrix product on gathered neighbours, which CPUs
(and bfloat16 matrix units) run about twice as fast; "conv1d" keeps [B, C, T] and calls PyTorch's convolutions.
Parameters are stored alike, so weights move freely between the two.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.errors import unknown
from diffbot.networks.activations import Mish

LAYOUTS = ("linear", "conv1d")


class Layout(nn.Module):
    """Base of modules that know where the channels are: last ("linear") or second ("conv1d")."""

    def __init__(self, layout: str):
        super().__init__()
        if layout not in LAYOUTS:
            raise unknown("convolution layout", layout, LAYOUTS)
        self.last = layout == "linear"


def _uniform(parameter: Tensor, fan_in: int) -> None:
    bound = 1.0 / math.sqrt(fan_in)  # PyTorch's default for convolutions and linear layers
    nn.init.uniform_(parameter, -bound, bound)


class Conv(Layout):
    """Convolution over time with 'same' padding `kernel // 2`; weight [out, kernel, in]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, layout: str, stride: int = 1):
        super().__init__(layout)
        if kernel % 2 == 0:
            raise ValueError(f"a kernel must be odd to keep the length, not {kernel}")
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(outputs, kernel, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        _uniform(self.weight, inputs * kernel)
        _uniform(self.bias, inputs * kernel)

    def forward(self, x: Tensor) -> Tensor:
        if not self.last:
            kernel = self.weight.transpose(1, 2)
            return F.conv1d(x, kernel, self.bias, stride=self.stride, padding=self.kernel // 2)
        if self.kernel > 1:
            x = neighbours(autocast(x), self.kernel, self.stride)
        return F.linear(x, self.weight.flatten(1), self.bias)


def autocast(x: Tensor) -> Tensor:
    """x in the precision that a matrix product would cast it to: cheaper before its neighbours are gathered."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and x.dtype == torch.float32:
        return x.to(torch.get_autocast_dtype(kind))
    return x


def neighbours(x: Tensor, kernel: int, stride: int = 1) -> Tensor:
    """Gather `kernel` zero-padded neighbours of each step: [B, T, C] -> [B, ceil(T / stride), kernel * C]."""
    return shifted(x, tuple(range(-(kernel // 2), kernel // 2 + 1)), stride)


def shifted(x: Tensor, offsets: tuple[int, ...], stride: int = 1) -> Tensor:
    """Put the steps stride * t + offset of [B, T, C] side by side, zeros outside: [B, ceil(T / stride), K * C]."""
    if not torch.compiler.is_compiling() and not torch.jit.is_tracing():
        out: Tensor = _Shifted.apply(x, offsets, stride)
        return out
    # The same in operations that compilers and exporters know.
    length, before, after = x.shape[1], max(0, -min(offsets)), max(0, max(offsets))
    padded = F.pad(x, (0, 0, before, after))
    return torch.cat([padded[:, before + o : before + o + length : stride] for o in offsets], dim=-1)


class _Shifted(torch.autograd.Function):
    """One copy forward and one sum backward, where padding, slicing and joining would each pass over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: tuple[int, ...], stride: int) -> Tensor:
        batch, length, channels = x.shape
        out = x.new_empty(batch, -(-length // stride), len(offsets), channels)
        ctx.length, ctx.places = length, [_overlap(length, out.shape[1], o, stride) for o in offsets]
        for tap, (first, last, source) in enumerate(ctx.places):
            out[:, :first, tap].zero_()
            out[:, first:last, tap].copy_(x[:, source])
            out[:, last:, tap].zero_()
        return out.flatten(2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        given = grads[0].unflatten(2, (len(ctx.places), -1))
        total = given.new_zeros(given.shape[0], ctx.length, given.shape[3])
        for tap, (first, last, source) in enumerate(ctx.places):
            total[:, source] += given[:, first:last, tap]
        return total, None, None


def _overlap(length: int, count: int, offset: int, stride: int) -> tuple[int, int, slice]:
    """(first, last, source): the steps first..last-1 of `count` whose source stride * t + offset lies within `length`."""
    first = min(count, max(0, -(offset // stride)))
    last = max(first, min(count, -((offset - length) // stride)))
    end = stride * (last - 1) + offset + 1 if last > first else 0
    return first, last, slice(stride * first + offset, end, stride)


class Upsample(Layout):
    """Transposed convolution, kernel 4, stride 2, padding 1: doubles the length; weight [out, 4, in]."""

    def __init__(self, channels: int, layout: str):
        super().__init__(layout)
        self.weight = nn.Parameter(torch.empty(channels, 4, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        _uniform(self.weight, channels * 4)
        _uniform(self.bias, channels * 4)

    def forward(self, x: Tensor) -> Tensor:
        if not self.last:
            return F.conv_transpose1d(x, self.weight.permute(2, 0, 1), self.bias, stride=2, padding=1)
        # y[2m] = W1 x[m] + W3 x[m-1] and y[2m+1] = W2 x[m] + W0 x[m+1].
        x = autocast(x)
        even = F.linear(shifted(x, (-1, 0)), self.weight[:, 1::2].flip(1).flatten(1), self.bias)
        odd = F.linear(shifted(x, (0, 1)), self.weight[:, ::2].flip(1).flatten(1), self.bias)
        return torch.stack([even, odd], dim=2).flatten(1, 2)


class GroupNorm(Layout):
    """Group normalisation over time and the channels of a group."""

    def __init__(self, groups: int, channels: int, layout: str):
        super().__init__(layout)
        if channels % groups:
            raise ValueError(
                f"{channels} channels cannot be split into {groups} groups: change widths or groups"
            )
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not self.last:
            return F.group_norm(x, self.groups, self.weight, self.bias)
        # [B, T, C] seen as a channels-last image of height 1: PyTorch's kernel then copies nothing.
        image = x.transpose(1, 2).unsqueeze(2)
        return F.group_norm(image, self.groups, self.weight, self.bias).squeeze(2).transpose(1, 2)


class ConvBlock(nn.Sequential):
    """Convolution, group norm, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int, layout: str):
        super().__init__(Conv(inputs, outputs, kernel, layout), GroupNorm(groups, outputs, layout), Mish())


class FiLMBlock(Layout):
    """Two convolution blocks with a feature-wise scale and bias between them, and a residual path.

    forward(x, parts): parts[slot] is this block's modulation, [B or 1, 2 * outputs].
    Source: Perez et al. 2018 (FiLM); Chi et al. 2023, Sec. 4.1.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int, layout: str):
        super().__init__(layout)
        self.outputs = outputs
        self.slot = 0  # set by the network that numbers its blocks
        self.first = ConvBlock(inputs, outputs, kernel, groups, layout)
        self.second = ConvBlock(outputs, outputs, kernel, groups, layout)
        self.residual = Conv(inputs, outputs, 1, layout) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        modulation = parts[self.slot].unsqueeze(1 if self.last else 2)
        scale, bias = modulation.chunk(2, dim=2 if self.last else 1)
        return self.second(torch.addcmul(bias, scale, self.first(x))) + self.residual(x)


class FiLMPair(nn.Module):
    """The two FiLM blocks of one U-Net level; `extra` is added between them."""

    def __init__(self, first: FiLMBlock, second: FiLMBlock):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, parts: tuple[Tensor, ...], extra: Tensor | None = None) -> Tensor:
        h = self.first(x, parts)
        return self.second(h if extra is None else h + extra, parts)
