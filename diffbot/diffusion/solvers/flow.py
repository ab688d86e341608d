"""Fixed-step solvers of a flow-matching ODE dx/dt = u(x, t) over t itself.

u = alpha' x0 + sigma' eps. They need a schedule whose velocity is finite on [0, 1] (rectified flow). A VP or VE model is
run by them after `convert(denoise, RectifiedFlow())`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Scalars
from diffbot.diffusion.solvers.run import Callback, Run


def euler(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """x <- x + (s - t) u(x, t): one evaluation a step, first order (Liu et al. 2023, Sec. 2.1)."""
    run = _flow_run("euler", denoise, x, times, generator, constraint, callback)
    x = run.begin(x)
    for i in range(run.steps):
        step = run.times[i + 1] - run.times[i]
        x0 = run.sample(x, run.times[i])
        on_x, on_sample = _velocity(run.at[i])
        new = torch.add((1.0 + step * on_x) * x, x0, alpha=step * on_sample)
        x = run.after(i, new, x, x0)
    return run.finish(x)


def heun(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Explicit trapezoid: two evaluations a step, one on the last when it ends at sigma = 0; second order.

    1. u = u(x, t); y = x + (s - t) u
    2. x <- x + (s - t) (u + u(y, s)) / 2
    """
    run = _flow_run("heun", denoise, x, times, generator, constraint, callback)
    x = run.begin(x)
    for i in range(run.steps):
        step = run.times[i + 1] - run.times[i]
        x0 = run.sample(x, run.times[i])
        on_x, on_sample = _velocity(run.at[i])
        slope = torch.add(on_x * x, x0, alpha=on_sample)
        new = torch.add(x, slope, alpha=step)
        if run.at[i + 1].sigma > 0.0:
            x0 = run.probe(new, run.times[i + 1])
            on_x, on_sample = _velocity(run.at[i + 1])
            slope = slope + torch.add(on_x * new, x0, alpha=on_sample)
            new = torch.add(x, slope, alpha=0.5 * step)
        x = run.after(i, new, x, x0)
    return run.finish(x)


def _velocity(c: Scalars) -> tuple[float, float]:
    """u = p x + q x0 with p = sigma'/sigma and q = alpha' - alpha sigma'/sigma."""
    rate = c.d_sigma / c.sigma
    return rate, c.d_alpha - c.alpha * rate


def _flow_run(
    name: str,
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    generator: torch.Generator | None,
    constraint: Constraint | None,
    callback: Callback | None,
) -> Run:
    run = Run(name, denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    if run.schedule.family != "flow":
        raise DiffusionError(
            f"solver '{name}' steps in the time of a flow schedule (rectified_flow), but the denoiser's schedule is "
            f"'{run.schedule.name}' ({run.schedule.family}). Use convert(denoise, RectifiedFlow()), or a solver of any "
            f"schedule: 'edm_{name}', 'ddim' or 'dpmpp_2m'."
        )
    return run
