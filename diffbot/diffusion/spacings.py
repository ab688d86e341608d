"""Where a solver steps: decreasing times [steps + 1] in float64, the first near 1 and the last 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffbot.diffusion.errors import DiffusionError, unknown
from diffbot.diffusion.schedule import Schedule, scalars

Spacing = Callable[[Schedule, int], Tensor]


def uniform(schedule: Schedule, steps: int, *, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Equal steps in t. On a K-step schedule with steps = K these are exactly its K steps."""
    _check(steps, start, end)
    # Counted from k/steps so that the times of a K-step grid carry no rounding.
    grid = torch.arange(steps, -1, -1, dtype=torch.float64) / steps
    return end + (start - end) * grid if (start, end) != (1.0, 0.0) else grid


def quadratic(schedule: Schedule, steps: int, *, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Equal steps in sqrt(t) (Song et al. 2021, "Denoising Diffusion Implicit Models", App. D.2)."""
    return uniform(schedule, steps, start=math.sqrt(start), end=math.sqrt(end)) ** 2


def log_snr(
    schedule: Schedule,
    steps: int,
    *,
    start: float | None = None,
    end: float | None = None,
    final_zero: bool = True,
) -> Tensor:
    """Equal steps in log-SNR from t = start to t = end, then t = 0 (Lu et al. 2022, Sec. 3.3).

    start and end default to the schedule's t_max and t_min; with final_zero False the grid stops at end.
    """
    first, last = schedule.t_max if start is None else start, schedule.t_min if end is None else end
    _check(steps, first, last)
    inner = steps if not final_zero else steps - 1
    if inner == 0:
        return torch.tensor([first, 0.0], dtype=torch.float64)
    levels = torch.linspace(
        scalars(schedule, first).log_snr, scalars(schedule, last).log_snr, inner + 1, dtype=torch.float64
    )
    return _close(schedule.time(levels), first, last, final_zero)


def karras(
    schedule: Schedule,
    steps: int,
    *,
    rho: float = 7.0,
    start: float | None = None,
    end: float | None = None,
    final_zero: bool = True,
) -> Tensor:
    """Equal steps in (sigma/alpha)^(1/rho), then t = 0 (Karras et al. 2022, Eq. 5)."""
    first, last = schedule.t_max if start is None else start, schedule.t_min if end is None else end
    _check(steps, first, last)
    inner = steps if not final_zero else steps - 1
    if inner == 0:
        return torch.tensor([first, 0.0], dtype=torch.float64)
    high, low = (scalars(schedule, t).ratio ** (1.0 / rho) for t in (first, last))
    levels = torch.linspace(high, low, inner + 1, dtype=torch.float64) ** rho
    return _close(schedule.time(-2.0 * levels.log()), first, last, final_zero)


def discrete(schedule: Schedule, steps: int, *, layout: str = "leading") -> Tensor:
    """A sub-sequence of a K-step schedule, laid out as in the `diffusers` package (its `timestep_spacing`).

    "leading": indices (0, K//n, 2 K//n, ...); "trailing": K, K - K/n, ...; "linspace": n points from K-1 to 0, then the
    data. Time (k+1)/K is index k; the last time is 0 (alpha = 1). Raises DiffusionError on a schedule that has no grid.
    """
    count = schedule.grid
    if count is None:
        raise DiffusionError(
            f"spacing 'discrete' needs a K-step schedule (squared_cosine, discrete_linear), not '{schedule.name}'"
        )
    if not 1 <= steps <= count:
        raise DiffusionError(f"{steps} steps do not fit the {count}-step grid of '{schedule.name}'")
    if layout == "leading":
        index = torch.arange(steps).flip(0) * (count // steps)
    elif layout == "trailing":
        index = (count - torch.arange(steps, dtype=torch.float64) * count / steps).round().long() - 1
    elif layout == "linspace":
        index = torch.linspace(0, count - 1, steps, dtype=torch.float64).round().long().flip(0)
    else:
        raise unknown("layout", layout, ("leading", "trailing", "linspace"))
    return torch.cat([(index + 1).double() / count, torch.zeros(1, dtype=torch.float64)])


def _check(steps: int, start: float, end: float) -> None:
    if steps < 1:
        raise DiffusionError(f"a solver needs at least one step, not {steps}")
    if not 0.0 <= end < start <= 1.0:
        raise DiffusionError(
            f"times run from start to end with 0 <= end < start <= 1, not from {start} to {end}"
        )


def _close(times: Tensor, first: float, last: float, final_zero: bool) -> Tensor:
    """Put the end points back exactly (inverting a schedule rounds) and append the data."""
    times = times.clone()
    times[0], times[-1] = first, last
    return torch.cat([times, times.new_zeros(1)]) if final_zero else times


SPACINGS: dict[str, Callable[..., Tensor]] = {
    "uniform": uniform,
    "quadratic": quadratic,
    "log_snr": log_snr,
    "karras": karras,
    "discrete": discrete,
}


def spacing_by_name(name: str, **options: Any) -> Spacing:
    """`spacing_by_name("karras", rho=7.0)(schedule, steps)` -> times [steps + 1]."""
    if name not in SPACINGS:
        raise unknown("spacing", name, SPACINGS)
    return partial(SPACINGS[name], **options)


spacing = spacing_by_name
