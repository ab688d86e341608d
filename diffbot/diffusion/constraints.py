"""Hooks that keep a sample inside what is known or allowed while it is being denoised.

A constraint may act on two things. `on_sample` changes the estimate of the clean sample at each evaluation; every solver
is linear in it, so a replaced entry follows the exact noised path of its known value and ends on it. `on_state` changes
x itself after each step. Both default to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffbot.diffusion.errors import DiffusionError


class Constraint:
    """Base of all constraints. t in [0, 1] is the time of the tensor that is passed."""

    def on_sample(self, x0: Tensor, t: float) -> Tensor:
        """Change the estimate of the clean sample made at time t."""
        return x0

    def on_state(self, x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        """Change x at time t; `previous` is x before the step, None before the first."""
        return x

    def check(self, x: Tensor) -> None:
        """Raise DiffusionError where the constraint does not fit x."""


@dataclass(frozen=True)
class Inpaint(Constraint):
    """Keep entries at known clean values.

    mask: weights in [0, 1], broadcastable to x (True/1 = exactly known, 0 = free, between = pulled, as in real-time
    chunking); known: clean values, broadcastable to x.
    mode "noised" moves known entries along their own noised path (what a model trained on fully noised data expects);
    "clean" writes the clean value into x at every noise level (Diffuser, Janner et al. 2022, Alg. 1: a model trained with
    clean conditions in place).
    """

    mask: Tensor
    known: Tensor
    mode: Literal["noised", "clean"] = "noised"

    def __post_init__(self) -> None:
        if self.mode not in ("noised", "clean"):
            raise DiffusionError(f"unknown inpainting mode '{self.mode}'. Valid: noised, clean.")
        weights = self.mask.to(self.known.dtype) if self.mask.dtype == torch.bool else self.mask
        if not bool(((weights >= 0) & (weights <= 1)).all()):
            raise DiffusionError("inpainting weights lie in [0, 1]; the mask has values outside")
        if not bool(torch.isfinite(self.known).all()):
            raise DiffusionError("the known values of an inpainting constraint are not finite")
        object.__setattr__(self, "mask", weights)

    def check(self, x: Tensor) -> None:
        for name, value in (("mask", self.mask), ("known values", self.known)):
            _fits(f"inpainting {name}", value, x)

    def on_sample(self, x0: Tensor, t: float) -> Tensor:
        return torch.lerp(x0, self.known.to(x0).expand_as(x0), self.mask.to(x0))

    def on_state(self, x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        if t == 0.0:  # soft weights have had their say in x0; only exact entries are pinned
            return torch.where(self.mask.to(x) == 1.0, self.known.to(x), x)
        return x if self.mode == "noised" else torch.lerp(x, self.known.to(x).expand_as(x), self.mask.to(x))


@dataclass(frozen=True)
class Clip(Constraint):
    """Clamp the clean sample into [low, high]; numbers or tensors broadcastable to x."""

    low: float | Tensor = -1.0
    high: float | Tensor = 1.0

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.low) <= torch.as_tensor(self.high)).all()):
            raise DiffusionError(f"clip needs low <= high, not {self.low} and {self.high}")

    def check(self, x: Tensor) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, Tensor):
                _fits(f"clip {name}", value, x)

    def on_sample(self, x0: Tensor, t: float) -> Tensor:
        return self._clamp(x0)

    def on_state(self, x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        return self._clamp(x) if t == 0.0 else x

    def _clamp(self, x: Tensor) -> Tensor:
        if not isinstance(self.low, Tensor) and not isinstance(self.high, Tensor):
            return x.clamp(self.low, self.high)
        return x.clamp(torch.as_tensor(self.low).to(x), torch.as_tensor(self.high).to(x))


@dataclass(frozen=True)
class Threshold(Constraint):
    """Dynamic thresholding (Saharia et al. 2022, Sec. 2.3; DPM-Solver++, App. A).

    Each sample is clipped at s = max(limit, the `ratio` quantile of its absolute values) and scaled by limit / s.
    """

    ratio: float = 0.995
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 < self.ratio <= 1.0 and self.limit > 0.0):
            raise DiffusionError(
                f"threshold needs 0 < ratio <= 1 and limit > 0, not {self.ratio}, {self.limit}"
            )

    def on_sample(self, x0: Tensor, t: float) -> Tensor:
        flat = x0.flatten(1)
        bound = torch.quantile(
            flat.abs().to(torch.promote_types(flat.dtype, torch.float32)), self.ratio, dim=1
        )
        bound = bound.clamp(min=self.limit).to(x0).reshape(-1, *(1,) * (x0.dim() - 1))
        return torch.clamp(x0, -bound, bound) * (self.limit / bound)


@dataclass(frozen=True)
class Project(Constraint):
    """Apply a user's projection: fn(value, t, previous) -> value, of the same shape.

    where "sample": on each clean estimate (previous is None). where "state": on x after each step, with the x before it,
    as a control-barrier QP needs (SafeDiffuser, Xiao et al. 2023, Eq. 8).
    """

    function: Callable[[Tensor, float, Tensor | None], Tensor]
    where: Literal["sample", "state"] = "sample"

    def on_sample(self, x0: Tensor, t: float) -> Tensor:
        return self._apply(x0, t, None) if self.where == "sample" else x0

    def on_state(self, x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        if self.where == "state":
            return self._apply(x, t, previous)
        return self._apply(x, t, None) if t == 0.0 else x

    def _apply(self, value: Tensor, t: float, previous: Tensor | None) -> Tensor:
        result = self.function(value, t, previous)
        if result.shape != value.shape:
            raise DiffusionError(f"the projection made {list(result.shape)} of {list(value.shape)}")
        return result


class Together(Constraint):
    """Several constraints, applied in the given order."""

    def __init__(self, *constraints: Constraint) -> None:
        self.constraints = constraints

    def on_sample(self, x0: Tensor, t: float) -> Tensor:
        for constraint in self.constraints:
            x0 = constraint.on_sample(x0, t)
        return x0

    def on_state(self, x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        for constraint in self.constraints:
            x = constraint.on_state(x, t, previous)
        return x

    def check(self, x: Tensor) -> None:
        for constraint in self.constraints:
            constraint.check(x)


def _fits(name: str, value: Tensor, x: Tensor) -> None:
    try:
        fits = torch.broadcast_shapes(value.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise DiffusionError(
            f"{name} of shape {list(value.shape)} do not broadcast to x of shape {list(x.shape)}"
        )
