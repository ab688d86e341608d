"""Multistep consistency sampling (Song et al. 2023, Alg. 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.solvers.run import Callback, Run


def consistency(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """For a model whose output is the end of the ODE's trajectory: one evaluation a step; times [1, 0] is one-step.

    1. x0 = denoise(x, t)
    2. x <- alpha_s x0 + temperature sigma_s z; at s = 0 this is x0
    """
    run = Run("consistency", denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    x = run.begin(x)
    for i in range(run.steps):
        s = run.at[i + 1]
        x0 = run.sample(x, run.times[i])
        new = s.alpha * x0
        if s.sigma > 0.0 and temperature > 0.0:
            new = new.add_(run.noise(x), alpha=temperature * s.sigma)
        x = run.after(i, new, x, x0)
    return run.finish(x)
