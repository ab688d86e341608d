"""Solvers of the reverse-time SDE (Song et al. 2021).

Legend: f = alpha'/alpha the drift, g^2 = 2 sigma^2 (sigma'/sigma - alpha'/alpha) the diffusion, score = (alpha x0 - x)/sigma^2.
A step that ends at sigma = 0 returns the clean estimate (Tweedie denoising, Song et al. 2021, App. G).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.solvers.ancestral import forward_variance, posterior_std
from diffbot.diffusion.solvers.run import Callback, Run, needs_alpha


def euler_maruyama(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    stochasticity: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """dx = [f x - (1 + k^2)/2 g^2 score] dt + k g dw, with k = stochasticity (0: probability-flow ODE; 1: Eq. 6).

    x <- x - dt [f x - (1 + k^2) (sigma'/sigma - f) (alpha x0 - x)] + temperature k g sqrt(dt) z,  dt = t - s
    """
    if stochasticity < 0.0:
        raise DiffusionError(f"stochasticity of euler_maruyama is >= 0, not {stochasticity}")
    run = Run(
        "euler_maruyama", denoise, x, times, generator=generator, constraint=constraint, callback=callback
    )
    needs_alpha(run, "the SDE's drift alpha'/alpha")
    x = run.begin(x)
    for i in range(run.steps):
        c, dt = run.at[i], run.times[i] - run.times[i + 1]
        x0 = run.sample(x, run.times[i])
        if run.at[i + 1].sigma == 0.0:
            new = run.at[i + 1].alpha * x0
        else:
            f = c.d_alpha / c.alpha
            gap = c.d_sigma / c.sigma - f
            pull = (1.0 + stochasticity**2) * gap * dt
            new = torch.add((1.0 - dt * f - pull) * x, x0, alpha=pull * c.alpha)
            std = temperature * stochasticity * c.sigma * math.sqrt(2.0 * gap * dt)
            if std > 0.0:
                new = new.add_(run.noise(x), alpha=std)
        x = run.after(i, new, x, x0)
    return run.finish(x)


def predictor_corrector(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    corrections: int = 1,
    snr: float = 0.16,
    temperature: float = 1.0,
) -> Tensor:
    """Ancestral predictor with Langevin corrector (Song et al. 2021, Alg. 1-5).

    1. x <- ancestral step to s (see `ddpm`)
    2. `corrections` times:  e = 2 (snr sigma_s)^2;  x <- x + e score(x, s) + temperature sqrt(2 e) z

    e is Alg. 4's 2 (snr |z|/|score|)^2 with the expectation 1/sigma for |score|/|z|, so that a sample's step does not depend
    on its own noise nor on the rest of the batch.
    """
    if corrections < 0 or not snr > 0.0:
        raise DiffusionError(
            f"predictor_corrector needs corrections >= 0 and snr > 0, not {corrections} and {snr}"
        )
    run = Run(
        "predictor_corrector",
        denoise,
        x,
        times,
        generator=generator,
        constraint=constraint,
        callback=callback,
    )
    x = run.begin(x)
    for i in range(run.steps):
        t, s = run.at[i], run.at[i + 1]
        x0 = run.sample(x, run.times[i])
        between = forward_variance(t, s)
        new = (t.alpha / s.alpha * s.sigma**2 / t.sigma**2) * x + (s.alpha * between / t.sigma**2) * x0
        if s.sigma > 0.0:
            if temperature > 0.0:
                new = new.add_(run.noise(x), alpha=temperature * posterior_std(t, s))
            size = 2.0 * (snr * s.sigma) ** 2
            pull = size / s.sigma**2
            for _ in range(corrections):
                x0 = run.probe(new, run.times[i + 1])
                new = torch.add((1.0 - pull) * new, x0, alpha=pull * s.alpha)
                if temperature > 0.0:
                    new = new.add_(run.noise(x), alpha=temperature * math.sqrt(2.0 * size))
        x = run.after(i, new, x, x0)
    return run.finish(x)
