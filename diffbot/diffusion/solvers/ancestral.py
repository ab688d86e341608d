"""DDPM (Ho et al. 2020) and DDIM (Song, Meng & Ermon 2021) on any schedule.

Legend: t -> s one step (s < t), a = alpha, x0 the clean estimate, eps = (x - a_t x0) / sigma_t, and
var(t|s) = sigma_t^2 - (a_t/a_s)^2 sigma_s^2 the forward variance between the two times.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Scalars
from diffbot.diffusion.solvers.run import Callback, Run


def forward_variance(t: Scalars, s: Scalars) -> float:
    """Variance of x_t given x_s (Kingma et al. 2021, Eq. 20)."""
    return max(t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2, 0.0)


def posterior_std(t: Scalars, s: Scalars) -> float:
    """Standard deviation of x_s given x_t and x0: sqrt(var(t|s)) sigma_s / sigma_t (Ho et al. 2020, Eq. 7)."""
    return math.sqrt(forward_variance(t, s)) * s.sigma / t.sigma


def ddpm(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    variance: Literal["small", "large"] = "small",
    temperature: float = 1.0,
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, Alg. 2), for any sub-sequence of times.

    1. x0 = denoise(x, t)
    2. mean = (a_t/a_s) sigma_s^2/sigma_t^2 x + a_s var(t|s)/sigma_t^2 x0        (Eq. 7)
    3. x <- mean + temperature std z; std^2 = var(t|s) sigma_s^2/sigma_t^2 ("small") or var(t|s) ("large"), 0 at the last
    """
    if variance not in ("small", "large"):
        raise DiffusionError(f"unknown variance '{variance}' of ddpm. Valid: small, large.")
    run = Run("ddpm", denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    x = run.begin(x)
    for i in range(run.steps):
        t, s = run.at[i], run.at[i + 1]
        between = forward_variance(t, s)
        x0 = run.sample(x, run.times[i])
        new = (t.alpha / s.alpha * s.sigma**2 / t.sigma**2) * x + (s.alpha * between / t.sigma**2) * x0
        std = temperature * (posterior_std(t, s) if variance == "small" else math.sqrt(between))
        if s.sigma > 0.0 and std > 0.0:
            new = new.add_(run.noise(x), alpha=std)
        x = run.after(i, new, x, x0)
    return run.finish(x)


def ddim(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    eta: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """The sigma-family of Song et al. 2021, Eq. 12: eta = 0 is deterministic, eta = 1 is DDPM.

    1. x0 = denoise(x, t), eps = (x - a_t x0) / sigma_t
    2. std = eta sqrt(var(t|s)) sigma_s / sigma_t                                  (Eq. 16)
    3. x <- a_s x0 + sqrt(sigma_s^2 - std^2) eps + temperature std z
    """
    if not 0.0 <= eta <= 1.0:
        raise DiffusionError(f"eta of ddim lies in [0, 1], not {eta}")
    run = Run("ddim", denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    x = run.begin(x)
    for i in range(run.steps):
        t, s = run.at[i], run.at[i + 1]
        std = eta * posterior_std(t, s) if eta > 0.0 else 0.0
        direction = math.sqrt(max(s.sigma**2 - std**2, 0.0)) / t.sigma
        x0 = run.sample(x, run.times[i])
        # a_s x0 + direction (x - a_t x0), in two passes over memory
        new = (direction * x).add_(x0, alpha=s.alpha - direction * t.alpha)
        if std > 0.0 and temperature > 0.0:
            new = new.add_(run.noise(x), alpha=temperature * std)
        x = run.after(i, new, x, x0)
    return run.finish(x)
