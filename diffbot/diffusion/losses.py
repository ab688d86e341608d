"""Denoising score matching: draw a time and noise, compare the network's output with its target, weigh.

The loss is w(t) |x0_hat - x0|^2, computed on the network's own output as w / k^2 |output - target|^2 with the gain k of the
prediction, which is exact and does not lose digits at either end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffbot.diffusion.denoiser import time_batch
from diffbot.diffusion.errors import DiffusionError, unknown
from diffbot.diffusion.predictions import Prediction
from diffbot.diffusion.schedule import Schedule, add_noise, coefficients, noise_like

WEIGHTINGS = ("simple", "sample", "snr", "min_snr", "edm")
TIME_DISTRIBUTIONS = ("uniform", "log_normal", "logit_normal")


def diffusion_loss(
    network: Callable[[Tensor, Tensor, Any], Tensor],
    schedule: Schedule,
    prediction: Prediction,
    x0: Tensor,
    condition: Any = None,
    *,
    weighting: str = "simple",
    mask: Tensor | None = None,
    generator: torch.Generator,
    times: Tensor | None = None,
    noise: Tensor | None = None,
    gamma: float = 5.0,
    time_distribution: str = "uniform",
    constrain: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The scalar training loss; arguments as in `diffusion_losses`. Entries outside `mask` do not count."""
    losses = diffusion_losses(
        network,
        schedule,
        prediction,
        x0,
        condition,
        weighting=weighting,
        generator=generator,
        times=times,
        noise=noise,
        gamma=gamma,
        time_distribution=time_distribution,
        constrain=constrain,
    )
    return masked_mean(losses, mask)


def diffusion_losses(
    network: Callable[[Tensor, Tensor, Any], Tensor],
    schedule: Schedule,
    prediction: Prediction,
    x0: Tensor,
    condition: Any = None,
    *,
    weighting: str = "simple",
    generator: torch.Generator,
    times: Tensor | None = None,
    noise: Tensor | None = None,
    gamma: float = 5.0,
    time_distribution: str = "uniform",
    constrain: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Weighted squared error of each element, of x0's shape [B, ...].

    times [B] and noise are drawn when not given; constrain is applied to the noised x before the network sees it (for
    instance clean conditions in place, as Diffuser trains). weighting: "simple" compares outputs (Ho et al. 2020, Eq. 14),
    "sample" and "snr" weigh the clean sample's error by 1 and SNR, "min_snr" by min(SNR, gamma) (Hang et al. 2023), "edm" by
    (sigma^2 + sd^2)/(sigma sd)^2 at the noise level sigma/alpha (Karras et al. 2022, Table 1).
    """
    if weighting not in WEIGHTINGS:
        raise unknown("weighting", weighting, WEIGHTINGS)
    if times is None:
        times = draw_times(schedule, x0, generator, time_distribution)
    if noise is None:
        noise = noise_like(x0, generator, "diffusion_loss")
    x = add_noise(x0, noise, times, schedule)
    if constrain is not None:
        x = constrain(x)
    output = network(prediction.scale_input(x, times, schedule), time_batch(times, x), condition)
    if output.shape != x0.shape:
        raise DiffusionError(f"network output {list(output.shape)} has not the shape of x0 {list(x0.shape)}")
    squared = (output - prediction.target(x0, noise, times, schedule)).square()
    if weighting == "simple":
        return squared
    gain = prediction.sample_gain(times, schedule, x0)
    return squared * (sample_weight(weighting, schedule, times, x0, gamma, prediction) / gain**2)


def sample_weight(
    weighting: str, schedule: Schedule, times: Tensor, like: Tensor, gamma: float, prediction: Prediction
) -> Any:
    """w(t) of the clean sample's squared error, shaped to multiply `like`."""
    c = coefficients(schedule, times, like)
    snr: Any = (c.alpha / c.sigma) ** 2
    if weighting == "sample":
        return torch.ones_like(snr)
    if weighting == "snr":
        return snr
    if weighting == "min_snr":
        return snr.clamp(max=gamma)
    return snr + getattr(prediction, "sigma_data", 0.5) ** -2.0


def draw_times(
    schedule: Schedule, x0: Tensor, generator: torch.Generator, distribution: str = "uniform"
) -> Tensor:
    """Training times [B]: the grid points k/K of a K-step schedule, else (0, 1].

    "log_normal": log sigma/alpha ~ N(-1.2, 1.2^2) (Karras et al. 2022); "logit_normal": logit t ~ N(0, 1) (Esser et al. 2024).
    """
    dtype = x0.dtype if x0.dtype == torch.float64 else torch.float32
    count, size, device = schedule.grid, x0.shape[0], generator.device
    if distribution == "uniform":
        if count is not None:
            drawn = torch.randint(1, count + 1, (size,), generator=generator, device=device).to(dtype) / count
        else:
            low = min(schedule.t_min, 1e-3)
            drawn = low + (1.0 - low) * torch.rand(size, generator=generator, device=device, dtype=dtype)
    elif distribution in ("log_normal", "logit_normal"):
        normal = torch.randn(size, generator=generator, device=device, dtype=dtype)
        t = (
            schedule.time(-2.0 * (1.2 * normal - 1.2))
            if distribution == "log_normal"
            else torch.sigmoid(normal)
        )
        drawn = t.clamp(min(schedule.t_min, 1e-3), schedule.t_max)
    else:
        raise unknown("time distribution", distribution, TIME_DISTRIBUTIONS)
    return drawn.to(x0.device)


def masked_mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of losses [B, ...] over the entries where mask (a prefix of the shape, or broadcastable) is set.

    Raises DiffusionError for a mask that does not fit; a batch with nothing to count has loss 0.
    """
    if mask is None:
        return losses.mean()
    weight = mask.to(losses)
    if weight.dim() < losses.dim() and weight.shape == losses.shape[: weight.dim()]:
        weight = weight.reshape(*weight.shape, *(1,) * (losses.dim() - weight.dim()))
    try:
        weight = weight.expand_as(losses)
    except RuntimeError as error:
        raise DiffusionError(
            f"mask of shape {list(mask.shape)} does not broadcast to losses of shape {list(losses.shape)}"
        ) from error
    return (losses * weight).sum() / weight.sum().clamp(min=1.0)
