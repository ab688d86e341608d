"""Classifier-free guidance, composition and negation: weighted sums of denoisers at the same x_t.

Noise, score and clean estimate are affine in each other at fixed (x, t), so the sums of the papers hold for x0 as written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Schedule


@dataclass(frozen=True)
class ClassifierFree:
    """x0 = x0(null) + w (x0(y) - x0(null)) (Ho & Salimans 2022; here w = 1 is the plain conditional model).

    Raises DiffusionError when the two denoisers have different schedules.
    """

    conditional: Denoise
    unconditional: Denoise
    scale: float = 1.0

    def __post_init__(self) -> None:
        _same_schedule(self.unconditional, [self.conditional])

    @property
    def schedule(self) -> Schedule:
        """The common schedule."""
        return self.unconditional.schedule

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        if self.scale == 1.0:
            return self.conditional(x, t)
        return torch.lerp(self.unconditional(x, t), self.conditional(x, t), self.scale)


@dataclass(frozen=True)
class Composition:
    """x0 = x0(base) + sum_i w_i (x0_i - x0(base)): the product q(x) prod_i (q_i(x)/q(x))^w_i (Liu et al. 2022, Eq. 11).

    A negative weight negates its concept. The score sum is that of the product at t = 0; at t > 0 it is exact where
    the factors act on independent parts of x, else Langevin corrections (`predictor_corrector`) reduce the difference (Du et al. 2023).
    """

    base: Denoise
    parts: Sequence[Denoise]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        _same_schedule(self.base, self.parts)
        if len(self.parts) != len(self.weights):
            raise DiffusionError(f"a composition of {len(self.parts)} parts got {len(self.weights)} weights")

    @property
    def schedule(self) -> Schedule:
        """The common schedule."""
        return self.base.schedule

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        x0 = (1.0 - sum(self.weights)) * self.base(x, t)
        for part, weight in zip(self.parts, self.weights, strict=True):
            x0 = torch.add(x0, part(x, t), alpha=weight)
        return x0


@dataclass(frozen=True)
class BatchedComposition:
    """`Composition` in one network call per step: at batch 1 a network's time is that of reading its weights once.

    denoise takes x repeated 1 + n times along the batch, its condition being concatenated once in the order
    [null, y_1, ..., y_n], each of B rows. With weights (w,) this is classifier-free guidance.
    """

    denoise: Denoise
    weights: Sequence[float]

    @property
    def schedule(self) -> Schedule:
        """The denoiser's schedule."""
        return self.denoise.schedule

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        copies = 1 + len(self.weights)
        times = t.repeat(copies) if isinstance(t, Tensor) and t.dim() == 1 else t
        base, *parts = self.denoise(x.repeat(copies, *(1,) * (x.dim() - 1)), times).chunk(copies)
        x0 = (1.0 - sum(self.weights)) * base
        for part, weight in zip(parts, self.weights, strict=True):
            x0 = torch.add(x0, part, alpha=weight)
        return x0


def _same_schedule(first: Denoise, others: Sequence[Denoise]) -> None:
    for other in others:
        if other.schedule != first.schedule:
            raise DiffusionError(
                f"these denoisers have different schedules, {first.schedule} and {other.schedule}: "
                "convert(denoise, schedule) brings one to the other"
            )
