"""A trained network as a function (x, t) -> estimate of the clean sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.predictions import Prediction
from diffbot.diffusion.schedule import Coefficients, Schedule, coefficients


@runtime_checkable
class Denoise(Protocol):
    """What solvers and guidance need: x [B, ...] and t (scalar or [B], in [0, 1]) -> E[x0 | x_t = x], of x's shape."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Denoiser:
    """`network(x, t [B], condition)` read through its prediction form on its schedule.

    A scalar t reads coefficients as Python numbers, remembered between calls; a tensor [B] computes them per sample.
    Raises DiffusionError where the network's output has not the shape of x.
    """

    network: Callable[[Tensor, Tensor, Any], Tensor]
    schedule: Schedule
    prediction: Prediction
    condition: Any = None

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        times = time_batch(t, x)
        output = self.network(self.prediction.scale_input(x, t, self.schedule), times, self.condition)
        if output.shape != x.shape:
            raise DiffusionError(
                f"network output {list(output.shape)} has not the shape of x {list(x.shape)}"
            )
        return self.prediction.to_sample(output, x, t, self.schedule)

    def given(self, condition: Any) -> Denoiser:
        """The same network under another condition."""
        return replace(self, condition=condition)


@dataclass(frozen=True)
class DenoiseFunction:
    """A plain function (x, t) -> x0 with a schedule: wraps closed forms and composed denoisers."""

    function: Callable[[Tensor, float | Tensor], Tensor]
    schedule: Schedule

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        return self.function(x, t)


def time_batch(t: float | Tensor, x: Tensor) -> Tensor:
    """t as the [B] tensor that networks take, on x's device (float32 for half-precision x)."""
    if isinstance(t, Tensor):
        return t.expand(x.shape[0]) if t.dim() == 0 else t
    dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    return torch.full((x.shape[0],), t, dtype=dtype, device=x.device)


def convert(denoise: Denoise, schedule: Schedule) -> Denoise:
    """Use a denoiser trained on one schedule as if it had been trained on another.

    Times with equal log-SNR see the same noise relative to the data (Kingma et al. 2021, Sec. 5): x is rescaled by
    alpha_source / alpha_target. At alpha_target = 0 the sigmas are matched instead, at the source's t = 1. This is how a
    flow solver runs a VP model, or a VP solver a flow model.
    """
    source = denoise.schedule
    if source == schedule:
        return denoise

    def function(x: Tensor, t: float | Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.dim() == 0:
            t64 = torch.as_tensor(t, dtype=torch.float64)
            here = schedule(t64)
            if not bool(torch.isfinite(here.log_snr)) and float(here.log_snr) > 0:
                return x / float(here.alpha)
            start = float(
                torch.where(torch.isfinite(here.log_snr), source.time(here.log_snr), torch.ones_like(t64))
            )
            start = min(max(start, 0.0), 1.0)
            there = source(torch.tensor(start, dtype=torch.float64))
            return denoise(x * float(_scale(there) / _scale(here)), start)
        times = source.time(schedule(t).log_snr).nan_to_num(nan=1.0).clamp(0.0, 1.0)
        there_c, here_c = coefficients(source, times, x), coefficients(schedule, t, x)
        assert isinstance(there_c, Coefficients) and isinstance(here_c, Coefficients)
        return denoise(x * (_scale(there_c) / _scale(here_c)), times)

    return DenoiseFunction(function, schedule)


def _scale(c: Coefficients) -> Tensor:
    """sqrt(alpha^2 + sigma^2): at equal log-SNR its ratio equals that of the alphas, and it is never 0."""
    return torch.sqrt(c.alpha**2 + c.sigma**2)
