"""Euler and Heun over the noise level, with stochastic churn (Karras et al. 2022, Alg. 1 and 2), on any schedule.

Legend: r = sigma / alpha is the paper's sigma, y = x / alpha its x, D the clean estimate; dy/dr = (y - D) / r.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import scalars, time_of_ratio
from diffbot.diffusion.solvers.run import Callback, Run, needs_alpha


@dataclass(frozen=True)
class Churn:
    """How much noise is put back before each step (Karras et al. 2022, Alg. 2 and Table 5).

    amount: S_churn, spread over all steps; low, high: S_tmin and S_tmax, noise levels between which it acts; noise: S_noise.
    """

    amount: float = 0.0
    low: float = 0.0
    high: float = math.inf
    noise: float = 1.0

    def __post_init__(self) -> None:
        if self.amount < 0.0 or self.noise < 0.0 or not 0.0 <= self.low <= self.high:
            raise DiffusionError(f"churn needs amount, noise >= 0 and 0 <= low <= high, not {self}")

    def gamma(self, ratio: float, steps: int) -> float:
        """Relative increase of the noise level before a step that starts at `ratio`."""
        if self.amount == 0.0 or not self.low <= ratio <= self.high:
            return 0.0
        return min(self.amount / steps, math.sqrt(2.0) - 1.0)


def edm_euler(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    churn: Churn | None = None,
) -> Tensor:
    """Alg. 2 without its second-order correction: one evaluation a step. Without churn this is DDIM."""
    return _edm("edm_euler", denoise, x, times, generator, constraint, callback, churn or Churn(), heun=False)


def edm_heun(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    churn: Churn | None = None,
) -> Tensor:
    """Alg. 2: two evaluations a step, one on the last when it ends at sigma = 0; second order without churn.

    1. r^ = r + gamma r;  y^ = y + sqrt(r^2^ - r^2) S_noise z
    2. d = (y^ - D(y^, r^)) / r^;  y' = y^ + (r' - r^) d
    3. if r' > 0:  d' = (y' - D(y', r')) / r';  y' = y^ + (r' - r^) (d + d') / 2
    """
    return _edm("edm_heun", denoise, x, times, generator, constraint, callback, churn or Churn(), heun=True)


def _edm(
    name: str,
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    generator: torch.Generator | None,
    constraint: Constraint | None,
    callback: Callback | None,
    churn: Churn,
    *,
    heun: bool,
) -> Tensor:
    run = Run(name, denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    needs_alpha(run, "sigma/alpha")
    ceiling = scalars(run.schedule, run.schedule.t_max).ratio
    x = run.begin(x)
    for i in range(run.steps):
        before, t, here, there = x, run.times[i], run.at[i], run.at[i + 1]
        gamma = churn.gamma(here.ratio, run.steps)
        if gamma > 0.0:
            raised = min(here.ratio * (1.0 + gamma), max(ceiling, here.ratio))
            t = time_of_ratio(run.schedule, raised)
            now = scalars(run.schedule, t)
            added = churn.noise * now.alpha * math.sqrt(max(raised**2 - here.ratio**2, 0.0))
            x = torch.add((now.alpha / here.alpha) * x, run.noise(x), alpha=added)
            here = now
        sample = run.sample(x, t) if gamma == 0.0 else run.probe(x, t)
        kept = there.sigma / here.sigma
        new = torch.add(kept * x, sample, alpha=there.alpha - kept * here.alpha)
        if heun and there.sigma > 0.0:
            step = there.ratio - here.ratio
            slope = (x / here.alpha - sample) / here.ratio
            sample = run.probe(new, run.times[i + 1])
            slope += (new / there.alpha - sample) / there.ratio
            new = torch.add((there.alpha / here.alpha) * x, slope, alpha=0.5 * step * there.alpha)
        x = run.after(i, new, before, sample)
    return run.finish(x)
