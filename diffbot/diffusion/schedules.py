"""Noise schedules: variance preserving, variance exploding and rectified flow, by name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from diffbot.diffusion.errors import DiffusionError, unknown
from diffbot.diffusion.schedule import Coefficients, Schedule


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, given by log alpha(t) (Song et al. 2021, Eq. 11)."""

    family: ClassVar[Literal["vp", "ve", "flow"]] = "vp"

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log alpha(t) <= 0 and its derivative."""
        raise NotImplementedError

    def __call__(self, t: Tensor) -> Coefficients:
        log_alpha, slope = self.log_alpha(t)
        alpha = log_alpha.exp()
        sigma = torch.sqrt(torch.expm1(2.0 * log_alpha).abs())
        d_alpha = alpha * slope
        return Coefficients(alpha, sigma, d_alpha, -alpha * d_alpha / sigma, 2.0 * (log_alpha - sigma.log()))


@dataclass(frozen=True)
class VPLinear(VariancePreserving):
    """beta(t) rises linearly: log alpha = -t^2 (b1 - b0)/4 - t b0/2 (Song et al. 2021, Eq. 33)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    name: ClassVar[str] = "vp_linear"

    def __post_init__(self) -> None:
        if not 0.0 < self.beta_min < self.beta_max:
            raise DiffusionError(
                f"vp_linear needs 0 < beta_min < beta_max, not {self.beta_min} and {self.beta_max}"
            )

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        spread = self.beta_max - self.beta_min
        return -t * (0.25 * spread * t + 0.5 * self.beta_min), -0.5 * (spread * t + self.beta_min)

    def time(self, log_snr: Tensor) -> Tensor:
        log_alpha = 0.5 * functional.logsigmoid(log_snr)
        root = torch.sqrt(self.beta_min**2 - 4.0 * (self.beta_max - self.beta_min) * log_alpha)
        return -4.0 * log_alpha / (self.beta_min + root)


@dataclass(frozen=True)
class VPCosine(VariancePreserving):
    """alpha = cos((u + s)/(1 + s) pi/2) / cos(s/(1 + s) pi/2), u = t_end t (Nichol & Dhariwal 2021, Eq. 17).

    alpha would be 0 at u = 1, so time is cut at t_end as in DPM-Solver (Lu et al. 2022, App. D.4).
    """

    offset: float = 0.008
    t_end: float = 0.9946

    name: ClassVar[str] = "vp_cosine"

    def __post_init__(self) -> None:
        if not (0.0 <= self.offset < 1.0 and 0.0 < self.t_end < 1.0):
            raise DiffusionError(
                f"vp_cosine needs 0 <= offset < 1 and 0 < t_end < 1, not {self.offset}, {self.t_end}"
            )

    @property
    def _start(self) -> float:
        return self.offset / (1.0 + self.offset) * math.pi / 2.0

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        rate = self.t_end / (1.0 + self.offset) * math.pi / 2.0
        angle = self._start + rate * t
        # log cos a - log cos b through the product form, so that it is exactly 0 at t = 0.
        half = 0.5 * rate * t
        log_alpha = torch.log1p(
            -2.0 * torch.sin(self._start + half) * torch.sin(half) / math.cos(self._start)
        )
        return log_alpha, -rate * torch.tan(angle)

    def time(self, log_snr: Tensor) -> Tensor:
        alpha = torch.exp(0.5 * functional.logsigmoid(log_snr))
        angle = torch.acos((alpha * math.cos(self._start)).clamp(-1.0, 1.0))
        return (angle - self._start) * (1.0 + self.offset) / (self.t_end * math.pi / 2.0)


class TabulatedVP(VariancePreserving):
    """A K-step DDPM as a schedule: exact at t = k/K, with constant beta (log alpha linear) in between.

    t = k/K is step k of Ho et al. 2020 (k = 1..K), index k - 1 of the `diffusers` schedulers.
    """

    steps: int

    def betas(self) -> Tensor:
        """The K forward variances beta_k, float64."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise DiffusionError(f"{self.name} needs steps >= 1, not {self.steps}")

    @property
    def grid(self) -> int | None:
        return self.steps

    @property
    def t_min(self) -> float:
        return 1.0 / self.steps

    def log_alpha(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = _table(self, str(t.device), t.dtype)
        position = t * self.steps
        # A time k/K must read entry k even when k/K * K rounds below k.
        nearest = position.round()
        position = torch.where((position - nearest).abs() < 1e-5, nearest, position)
        left = position.floor().clamp(0, self.steps - 1).long()
        slope = table[left + 1] - table[left]
        return table[left] + (position - left) * slope, slope * self.steps

    def time(self, log_snr: Tensor) -> Tensor:
        log_alpha = 0.5 * functional.logsigmoid(log_snr)
        table = _table(self, str(log_snr.device), log_snr.dtype)
        right = torch.searchsorted(-table, -log_alpha.contiguous()).clamp(1, self.steps)
        slope = table[right] - table[right - 1]
        return (right - 1 + (log_alpha - table[right - 1]) / slope) / self.steps


@lru_cache(maxsize=64)
def _table(schedule: TabulatedVP, device: str, dtype: torch.dtype) -> Tensor:
    """log alpha at k/K for k = 0..K."""
    with torch.inference_mode(False):
        log_alpha = 0.5 * torch.cumsum(torch.log1p(-schedule.betas()), dim=0)
        return torch.cat([log_alpha.new_zeros(1), log_alpha]).to(device=device, dtype=dtype)


@dataclass(frozen=True)
class VPDiscreteLinear(TabulatedVP):
    """beta_k = linspace(beta_start, beta_end, K) (Ho et al. 2020, Sec. 4)."""

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    name: ClassVar[str] = "discrete_linear"

    def betas(self) -> Tensor:
        return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)


@dataclass(frozen=True)
class VPSquaredCosine(TabulatedVP):
    """beta_k = min(1 - f(k/K)/f((k-1)/K), max_beta), f(u) = cos^2((u + 0.008)/1.008 pi/2): "squaredcos_cap_v2".

    The schedule of Diffusion Policy (Chi et al. 2023), there with K = 100.
    """

    steps: int = 100
    max_beta: float = 0.999

    name: ClassVar[str] = "squared_cosine"

    def betas(self) -> Tensor:
        u = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        f = torch.cos((u + 0.008) / 1.008 * math.pi / 2.0) ** 2
        return (1.0 - f[1:] / f[:-1]).clamp(max=self.max_beta)


@dataclass(frozen=True)
class VE(Schedule):
    """alpha = 1, sigma^2 = sigma_min^2 ((sigma_max/sigma_min)^(2t) - 1) (Song et al. 2021, Eq. 29 and App. B)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    name: ClassVar[str] = "ve"
    family: ClassVar[Literal["vp", "ve", "flow"]] = "ve"

    def __post_init__(self) -> None:
        _ordered_sigmas(self.name, self.sigma_min, self.sigma_max)

    @property
    def prior_std(self) -> float:
        return math.sqrt(self.sigma_max**2 - self.sigma_min**2)

    def __call__(self, t: Tensor) -> Coefficients:
        rate = 2.0 * math.log(self.sigma_max / self.sigma_min)
        variance = self.sigma_min**2 * torch.expm1(rate * t)
        sigma = variance.sqrt()
        d_sigma = 0.5 * rate * (variance + self.sigma_min**2) / sigma
        return Coefficients(torch.ones_like(t), sigma, torch.zeros_like(t), d_sigma, -variance.log())

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.log1p(torch.exp(-log_snr) / self.sigma_min**2) / (
            2.0 * math.log(self.sigma_max / self.sigma_min)
        )


@dataclass(frozen=True)
class EDM(Schedule):
    """alpha = 1, sigma = sigma_max t^rho: uniform steps in t are the sigma grid of Karras et al. 2022 (Eq. 5).

    sigma_min only says where the `karras` and `log_snr` spacings place their last non-zero noise level.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    name: ClassVar[str] = "edm"
    family: ClassVar[Literal["vp", "ve", "flow"]] = "ve"

    def __post_init__(self) -> None:
        _ordered_sigmas(self.name, self.sigma_min, self.sigma_max)
        if self.rho < 1.0:
            raise DiffusionError(f"edm needs rho >= 1, not {self.rho}")

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    @property
    def t_min(self) -> float:
        return float((self.sigma_min / self.sigma_max) ** (1.0 / self.rho))

    def __call__(self, t: Tensor) -> Coefficients:
        sigma = self.sigma_max * t**self.rho
        d_sigma = self.sigma_max * self.rho * t ** (self.rho - 1.0)
        return Coefficients(torch.ones_like(t), sigma, torch.zeros_like(t), d_sigma, -2.0 * sigma.log())

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.exp((-0.5 * log_snr - math.log(self.sigma_max)) / self.rho)


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """alpha = 1 - t, sigma = sigma_min + (1 - sigma_min) t: straight conditional paths.

    sigma_min = 0 is rectified flow (Liu et al. 2023); above 0 the optimal-transport path of Lipman et al. 2023, Eq. 20
    (their time runs the other way).
    """

    sigma_min: float = 0.0

    name: ClassVar[str] = "rectified_flow"
    family: ClassVar[Literal["vp", "ve", "flow"]] = "flow"

    def __post_init__(self) -> None:
        if not 0.0 <= self.sigma_min < 1.0:
            raise DiffusionError(f"rectified_flow needs 0 <= sigma_min < 1, not {self.sigma_min}")

    @property
    def t_max(self) -> float:
        return 0.999

    def __call__(self, t: Tensor) -> Coefficients:
        one = torch.ones_like(t)
        alpha, sigma = 1.0 - t, self.sigma_min + (1.0 - self.sigma_min) * t
        return Coefficients(
            alpha, sigma, -one, (1.0 - self.sigma_min) * one, 2.0 * (alpha.log() - sigma.log())
        )

    def time(self, log_snr: Tensor) -> Tensor:
        # sigma / alpha = r  =>  t = (r - sigma_min) / (r + 1 - sigma_min)
        if self.sigma_min == 0.0:
            return torch.sigmoid(-0.5 * log_snr)
        ratio = torch.exp(-0.5 * log_snr)
        return (ratio - self.sigma_min) / (ratio + 1.0 - self.sigma_min)


def _ordered_sigmas(name: str, low: float, high: float) -> None:
    if not 0.0 < low < high:
        raise DiffusionError(f"{name} needs 0 < sigma_min < sigma_max, not {low} and {high}")


SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (VPLinear, VPCosine, VPSquaredCosine, VPDiscreteLinear, VE, EDM, RectifiedFlow)
}


def schedule_by_name(name: str, **options: Any) -> Schedule:
    """Build a schedule: `schedule_by_name("squared_cosine", steps=100)`.

    Raises DiffusionError for an unknown name or option, with the nearest match.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    kind: Any = SCHEDULES[name]
    valid = [field.name for field in dataclasses.fields(kind)]
    for option in options:
        if option not in valid:
            raise unknown(f"option of schedule {name}", option, valid)
    schedule: Schedule = kind(**options)
    return schedule
