"""What a noise schedule is: the coefficients of x_t = alpha(t) x_0 + sigma(t) eps on t in [0, 1].

t = 0 is data, t = 1 is noise. The log signal-to-noise ratio is log_snr = log(alpha^2 / sigma^2), twice the lambda of the
DPM-Solver papers. The forward SDE of a schedule is dx = f x dt + g dw with f = alpha'/alpha and
g^2 = 2 sigma sigma' - 2 sigma^2 alpha'/alpha (Song et al. 2021, Kingma et al. 2021 Eq. 2).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from diffbot.diffusion.errors import DiffusionError


class Coefficients(NamedTuple):
    """A schedule at times t: tensors of t's shape."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor
    log_snr: Tensor


class Scalars(NamedTuple):
    """A schedule at one time, in double precision: Python numbers, so a solver's step reads no tensor."""

    alpha: float
    sigma: float
    d_alpha: float
    d_sigma: float
    log_snr: float

    @property
    def ratio(self) -> float:
        """sigma / alpha, the noise level of EDM (Karras et al. 2022); infinite where alpha is 0."""
        return self.sigma / self.alpha if self.alpha > 0.0 else math.inf

    @property
    def half_log_snr(self) -> float:
        """lambda = log(alpha / sigma) of the DPM-Solver papers."""
        return 0.5 * self.log_snr


class Schedule(ABC):
    """alpha(t) and sigma(t). Subclasses are frozen dataclasses, hence hashable and comparable by value."""

    name: ClassVar[str]
    family: ClassVar[Literal["vp", "ve", "flow"]]

    @abstractmethod
    def __call__(self, t: Tensor) -> Coefficients:
        """Coefficients at t (any shape, values in [0, 1])."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The t at which the schedule has this log-SNR: the inverse of `self(t).log_snr`."""

    @property
    def t_min(self) -> float:
        """Smallest t at which log-SNR spacings place a step before the final one at t = 0."""
        return 1e-3

    @property
    def t_max(self) -> float:
        """Largest t with alpha > 0, where log-SNR spacings start."""
        return 1.0

    @property
    def prior_std(self) -> float:
        """Standard deviation of x at t = 1 for data of unit variance (VP, flow) or small variance (VE)."""
        return 1.0

    @property
    def grid(self) -> int | None:
        """Number of training steps K where the schedule is defined on t = k / K, else None."""
        return None


@lru_cache(maxsize=65536)
def scalars(schedule: Schedule, t: float) -> Scalars:
    """The schedule at one time as Python numbers, computed in float64 and remembered."""
    values = schedule(torch.tensor(t, dtype=torch.float64))
    return Scalars(*(float(value) for value in values))


def time_of_ratio(schedule: Schedule, ratio: float) -> float:
    """The t at which sigma / alpha has this value (0 gives t = 0)."""
    if ratio <= 0.0:
        return 0.0
    return float(schedule.time(torch.tensor(-2.0 * math.log(ratio), dtype=torch.float64)))


def coefficients(schedule: Schedule, t: float | Tensor, like: Tensor) -> Coefficients | Scalars:
    """The schedule at t, ready to multiply `like` [B, ...].

    A number or one-element 0-d tensor gives Python numbers; a tensor [B] gives tensors [B, 1, ...] of like's dtype and
    device. Raises DiffusionError where t is neither a scalar nor of shape [B].
    """
    if not isinstance(t, Tensor):
        return scalars(schedule, t)
    if t.dim() == 0:
        return scalars(schedule, float(t))
    if t.dim() != 1 or like.dim() < 1 or t.shape[0] != like.shape[0]:
        raise DiffusionError(
            f"times of shape {list(t.shape)} do not fit x of shape {list(like.shape)}: t is a scalar or [B={like.shape[0]}]"
        )
    shape = (-1,) + (1,) * (like.dim() - 1)
    return Coefficients(*(value.to(like).reshape(shape) for value in schedule(t)))


def noise_like(x: Tensor, generator: torch.Generator | None, what: str = "this call") -> Tensor:
    """Standard normal noise of x's shape, device and dtype.

    It is drawn in float32 on the generator's device, so that one CPU seed means the same on every device and precision.
    Raises DiffusionError without a generator: nothing here reads the global one.
    """
    if generator is None:
        raise DiffusionError(f"{what} draws noise: pass generator=torch.Generator().manual_seed(seed)")
    noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return noise.to(x)


def prior_noise(
    schedule: Schedule,
    shape: tuple[int, ...] | torch.Size,
    generator: torch.Generator,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    temperature: float = 1.0,
) -> Tensor:
    """Draw x at t = 1: temperature * prior_std * N(0, I). Temperature below 1 draws nearer to the mode (F13)."""
    target = torch.empty(shape, device=device or generator.device, dtype=dtype)
    return noise_like(target, generator) * (temperature * schedule.prior_std)


def add_noise(x0: Tensor, noise: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """x_t = alpha(t) x0 + sigma(t) noise; x0 and noise [B, ...], t scalar or [B]."""
    c = coefficients(schedule, t, x0)
    return c.alpha * x0 + c.sigma * noise
