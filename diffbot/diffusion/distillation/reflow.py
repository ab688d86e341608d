"""Reflow: straighten a flow by training it on its own couplings (Liu et al. 2023, Sec. 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffbot.diffusion.denoiser import Denoise, convert
from diffbot.diffusion.losses import diffusion_loss
from diffbot.diffusion.predictions import Prediction, Velocity
from diffbot.diffusion.schedule import Schedule, prior_noise
from diffbot.diffusion.schedules import RectifiedFlow


def reflow_pairs(
    teacher: Denoise,
    shape: tuple[int, ...],
    times: Tensor,
    solver: Callable[..., Tensor],
    *,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """(noise, x0) of the teacher's ODE: noise drawn N(0, I), x0 where the deterministic solver takes it; both of `shape`.

    Train the student on them with `reflow_loss`, or distil into one step with times fixed at 1.
    """
    noise = prior_noise(teacher.schedule, shape, generator, device=device, dtype=dtype)
    with torch.no_grad():
        x0 = solver(teacher, noise, times, generator=generator, **options)
    return noise / teacher.schedule.prior_std, x0


def reflow_loss(
    network: Callable[[Tensor, Tensor, Any], Tensor],
    noise: Tensor,
    x0: Tensor,
    condition: Any = None,
    *,
    generator: torch.Generator,
    schedule: Schedule | None = None,
    prediction: Prediction | None = None,
    times: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Flow matching on coupled pairs instead of independent noise (Liu et al. 2023, Eq. 1). Scalar.

    times None draws them from (0, 1]; torch.ones(B) trains the one-step distillation of Sec. 2.2.
    """
    return diffusion_loss(
        network,
        schedule or RectifiedFlow(),
        prediction or Velocity(),
        x0,
        condition,
        generator=generator,
        noise=noise,
        times=times,
        mask=mask,
        time_distribution="uniform",
    )


def straightness(denoise: Denoise, x: Tensor, steps: int = 50) -> Tensor:
    """Mean over t of |(x_1 - x_0) - u(x_t, t)|^2 along the ODE from x at t = 1; 0 for straight paths (Liu et al. 2023, Eq. 5).

    x [B, ...] of unit noise; returns [B]. The denoiser is read on rectified flow, converted when it has another schedule.
    """
    flow = convert(denoise, RectifiedFlow())
    start, velocities = x, []
    for k in range(steps, 0, -1):
        t = k / steps
        velocity = (x - flow(x, t)) / t
        velocities.append(velocity)
        x = x - velocity / steps
    chord = start - x
    return torch.stack([(chord - v).flatten(1).square().sum(1) for v in velocities]).mean(0)
