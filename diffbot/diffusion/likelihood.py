"""Exact log-likelihood by the instantaneous change of variables (Song et al. 2021, Sec. 4.3 and App. D.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import scalars, time_of_ratio
from diffbot.diffusion.solvers.adaptive import Tolerance, at_log_ratio, integrate


def log_likelihood(
    denoise: Denoise,
    x0: Tensor,
    *,
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: int = 1,
    generator: torch.Generator | None = None,
    t_min: float | None = None,
    data_std: float = 1.0,
    tolerance: Tolerance | None = None,
) -> Tensor:
    """log density of x0 [B, ...] under the probability-flow ODE of a denoiser, in nats, [B].

    In y = x/alpha and l = log(sigma/alpha): dy/dl = y - D(y), d log p/dl = -(dim - tr dD/dy). It starts at y = x0, t = t_min
    (by default the first step of a K-step schedule, else where r = sigma/alpha = 0.002) and ends at t_max in N(0, r^2 + data_std^2), with r at t_max. Data far from mean 0 and unit variance
    add the usual prior error of order |mean|/r.

    "exact" takes one backward pass per dimension of a sample; "hutchinson" one per probe, with random signs drawn once from
    `generator` (Grathwohl et al. 2019): unbiased, noisy. The denoiser must be differentiable in x.
    """
    schedule = denoise.schedule
    if x0.dim() < 2 or not x0.is_floating_point():
        raise DiffusionError(
            f"log_likelihood needs float x0 of shape [B, ...], not {list(x0.shape)} {x0.dtype}"
        )
    if divergence not in ("exact", "hutchinson"):
        raise DiffusionError(f"unknown divergence '{divergence}'. Valid: exact, hutchinson.")
    low = t_min if t_min is not None else schedule.t_min if schedule.grid else time_of_ratio(schedule, 2e-3)
    if not 0.0 < low < schedule.t_max:
        raise DiffusionError(f"t_min of log_likelihood lies in (0, {schedule.t_max:g}), not {low}")
    with torch.inference_mode(False):
        start = x0.detach().clone()
        directions = _directions(start, divergence, probes, generator)
        dimensions = start[0].numel()

        def derivative(level: float, values: Sequence[Tensor]) -> list[Tensor]:
            t, c = at_log_ratio(schedule, level)
            with torch.enable_grad():
                y = values[0].detach().requires_grad_()
                sample = denoise(c.alpha * y, t)
                trace = _trace(sample, y, directions)
            return [(y - sample).detach(), trace - dimensions]

        first, last = scalars(schedule, low).ratio, scalars(schedule, schedule.t_max).ratio
        y, change = integrate(
            derivative,
            [start, start.new_zeros(start.shape[0])],
            math.log(first),
            math.log(last),
            tolerance or Tolerance(),
        )
    variance = last**2 + data_std**2
    prior = -0.5 * (y.flatten(1).square().sum(1) / variance + dimensions * math.log(2.0 * math.pi * variance))
    # d log p = (tr - dim) dl along the path, so log p(start) = log p(end) - change.
    result = prior - change
    if not bool(torch.isfinite(result).all()):
        raise DiffusionError("log_likelihood is not finite: the denoiser's output or its derivative is not")
    return result


def _directions(
    x: Tensor, divergence: str, probes: int, generator: torch.Generator | None
) -> tuple[list[Tensor], float]:
    """Vectors v whose v . J v, summed and scaled, give or estimate the trace of J."""
    if divergence == "exact":
        basis = []
        for i in range(x[0].numel()):
            unit = torch.zeros_like(x)
            unit.flatten(1)[:, i] = 1.0
            basis.append(unit)
        return basis, 1.0
    if generator is None:
        raise DiffusionError("the Hutchinson estimate draws random signs: pass generator=...")
    if probes < 1:
        raise DiffusionError(f"the Hutchinson estimate needs probes >= 1, not {probes}")
    signs = [
        (2 * torch.randint(0, 2, x.shape, generator=generator, device=generator.device) - 1).to(x)
        for _ in range(probes)
    ]
    return signs, 1.0 / probes


def _trace(output: Tensor, x: Tensor, directions: tuple[list[Tensor], float]) -> Tensor:
    vectors, scale = directions
    total = torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
    for i, vector in enumerate(vectors):
        (product,) = torch.autograd.grad(output, x, vector, retain_graph=i + 1 < len(vectors))
        total += (product * vector).flatten(1).sum(1)
    return total * scale
