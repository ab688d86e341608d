"""Consistency training and distillation (Song et al. 2023; Song & Dhariwal 2024).

A consistency model is a denoiser f whose value is constant along each trajectory of the probability-flow ODE and is the
identity at t = 0, which the "edm" prediction guarantees. Sample it with the solver `consistency`.
Legend: grid s_0 > s_1 > ... > s_N of times, n one of its N intervals, t = s_n its noisier end and s = s_{n+1} the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.losses import masked_mean
from diffbot.diffusion.schedule import Schedule, add_noise, coefficients, noise_like
from diffbot.diffusion.spacings import karras

Distance = Callable[[Tensor, Tensor], Tensor]


def consistency_grid(schedule: Schedule, intervals: int, *, rho: float = 7.0) -> Tensor:
    """N intervals: N + 1 times from t_max to t_min, spaced in (sigma/alpha)^(1/rho) (Song et al. 2023, Sec. 5)."""
    return karras(schedule, intervals, rho=rho, final_zero=False)


def grid_size(step: int, total: int, *, first: int = 10, last: int = 160) -> int:
    """Number of intervals at a training step, doubling from first to last (Song & Dhariwal 2024, Sec. 3.4)."""
    if not 0 < first <= last or total < 1:
        raise DiffusionError(
            f"grid_size needs 0 < first <= last and total >= 1, not {first}, {last}, {total}"
        )
    doublings = math.floor(math.log2(last / first)) + 1
    period = max(total // doublings, 1)
    return int(min(first * 2 ** (step // period), last))


def pseudo_huber(first: Tensor, second: Tensor, scale: float = 0.00054) -> Tensor:
    """sqrt(|a - b|^2 + c^2) - c of each sample with c = scale sqrt(dim), spread over its elements (2024, Sec. 3.3).

    Returns a tensor of the inputs' shape whose sum over a sample is the distance.
    """
    squared = (first - second).square()
    dimensions = squared[0].numel()
    c = scale * math.sqrt(dimensions)
    total = squared.flatten(1).sum(1).reshape(-1, *(1,) * (squared.dim() - 1))
    # |d|^2 / (sqrt(|d|^2 + c^2) + c) is the same number without cancellation, shared out by each element's part
    return squared / (torch.sqrt(total + c**2) + c)


def consistency_training_loss(
    student: Denoise,
    target: Denoise,
    x0: Tensor,
    grid: Tensor,
    *,
    generator: torch.Generator,
    mask: Tensor | None = None,
    distance: Distance = pseudo_huber,
    intervals: Literal["uniform", "log_normal"] = "log_normal",
) -> Tensor:
    """E w(n) d(f(x0 + noise at t), f^-(x0 + the same noise at s)) (Song et al. 2023, Eq. 10): no teacher. Scalar.

    student carries gradients; target is evaluated without (the same weights without gradient in improved consistency training,
    or an EMA). w = 1/(r_t - r_s), r = sigma/alpha, for log_normal intervals (2024, Sec. 3.3-3.5) and 1 for uniform ones.
    mask marks the elements that count, [B, ...] or a prefix of it.
    """
    t, s, weight = _draw(student.schedule, x0, grid, generator, intervals)
    noise = noise_like(x0, generator, "consistency training")
    x_t, x_s = add_noise(x0, noise, t, student.schedule), add_noise(x0, noise, s, student.schedule)
    with torch.no_grad():
        aim = target(x_s, s)
    return masked_mean(distance(student(x_t, t), aim) * weight, mask)


def consistency_distillation_loss(
    student: Denoise,
    target: Denoise,
    teacher: Denoise,
    x0: Tensor,
    grid: Tensor,
    *,
    generator: torch.Generator,
    mask: Tensor | None = None,
    distance: Distance = pseudo_huber,
    intervals: Literal["uniform", "log_normal"] = "uniform",
    heun: bool = True,
) -> Tensor:
    """E w(n) d(f(x_t), f^-(x_s)), x_s one ODE step of the teacher from x_t (Song et al. 2023, Alg. 2). Scalar.

    The step is Heun's over sigma/alpha (two teacher evaluations), or DDIM with heun False.
    """
    schedule = student.schedule
    if teacher.schedule != schedule or target.schedule != schedule:
        raise DiffusionError(
            f"student, target and teacher have different schedules: {schedule}, {target.schedule}, {teacher.schedule}. "
            "convert(denoise, schedule) brings one to the other"
        )
    t, s, weight = _draw(schedule, x0, grid, generator, intervals)
    x_t = add_noise(x0, noise_like(x0, generator, "consistency distillation"), t, schedule)
    with torch.no_grad():
        aim = target(_teacher_step(teacher, x_t, t, s, heun), s)
    return masked_mean(distance(student(x_t, t), aim) * weight, mask)


def _teacher_step(teacher: Denoise, x: Tensor, t: Tensor, s: Tensor, heun: bool) -> Tensor:
    a, b = coefficients(teacher.schedule, t, x), coefficients(teacher.schedule, s, x)
    sample = teacher(x, t)
    kept = b.sigma / a.sigma
    euler = kept * x + (b.alpha - kept * a.alpha) * sample
    if not heun:
        return euler
    r, q = a.sigma / a.alpha, b.sigma / b.alpha
    slope = (x / a.alpha - sample) / r + (euler / b.alpha - teacher(euler, s)) / q
    return b.alpha * (x / a.alpha + 0.5 * (q - r) * slope)


def _draw(
    schedule: Schedule, x0: Tensor, grid: Tensor, generator: torch.Generator, intervals: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Times t > s [B] of random grid intervals, and the loss weight shaped for x0."""
    if (
        grid.dim() != 1
        or grid.numel() < 2
        or not bool((grid[:-1] > grid[1:]).all())
        or not float(grid[-1]) > 0.0
    ):
        raise DiffusionError(
            "a consistency grid is strictly decreasing and ends above 0: see consistency_grid"
        )
    ratios = (-0.5 * schedule(grid).log_snr).exp()
    if intervals == "uniform":
        odds = torch.ones(grid.numel() - 1, dtype=torch.float64)
        weight = torch.ones_like(odds)
    elif intervals == "log_normal":
        # P(n) = mass of log r ~ N(-1.1, 2^2) in the interval (Song & Dhariwal 2024, Eq. 10)
        scaled = torch.erf((ratios.log() + 1.1) / (math.sqrt(2.0) * 2.0)).double()
        odds = (scaled[:-1] - scaled[1:]).clamp(min=1e-12)
        weight = 1.0 / (ratios[:-1] - ratios[1:])
    else:
        raise DiffusionError(f"unknown choice of intervals '{intervals}'. Valid: uniform, log_normal.")
    n = torch.multinomial(odds.to(generator.device), x0.shape[0], replacement=True, generator=generator).to(
        grid.device
    )
    dtype = x0.dtype if x0.dtype == torch.float64 else torch.float32
    t, s = (grid[index].to(device=x0.device, dtype=dtype) for index in (n, n + 1))
    return t, s, weight[n].to(x0).reshape(-1, *(1,) * (x0.dim() - 1))
