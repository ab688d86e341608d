"""Dormand-Prince 5(4) with step control, for the probability-flow ODE over log(sigma/alpha).

With y = x / alpha and l = log(sigma/alpha) the ODE of Song et al. 2021 (Eq. 13) reads dy/dl = y - D(y, l), D the clean
estimate: smooth on every schedule, whatever its time looks like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Scalars, Schedule, scalars, time_of_ratio
from diffbot.diffusion.solvers.run import Callback, Run

# Dormand & Prince 1980, RK5(4)7M.
_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_ROWS: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

Derivative = Callable[[float, Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Tolerance:
    """Error per step: atol + rtol |value|, as the root mean square within each sample, the worst sample counting."""

    rtol: float = 1e-5
    atol: float = 1e-6
    max_steps: int = 2000

    def __post_init__(self) -> None:
        if not (self.rtol > 0.0 and self.atol > 0.0 and self.max_steps > 0):
            raise DiffusionError(f"tolerances and max_steps are positive, not {self}")


def integrate(
    derivative: Derivative,
    state: Sequence[Tensor],
    start: float,
    end: float,
    tolerance: Tolerance,
    *,
    controlled: int = 1,
) -> list[Tensor]:
    """Integrate a tuple of tensors [B, ...] from start to end (either direction); the first `controlled` set the step.

    Raises DiffusionError when max_steps do not suffice or a value stops being finite.
    """
    values, at, direction = list(state), start, math.copysign(1.0, end - start)
    step = min(0.1, abs(end - start))
    slopes = derivative(at, values)
    for _ in range(tolerance.max_steps):
        step = min(step, abs(end - at))
        h = direction * step
        stages = [slopes]
        for row, node in zip(_ROWS[1:], _NODES[1:], strict=True):
            point = [_combine(value, stages, row, h, j) for j, value in enumerate(values)]
            stages.append(derivative(at + node * h, point))
        worst = 0.0
        for j in range(controlled):
            error = _combine(torch.zeros_like(values[j]), stages, _ERROR, h, j)
            scale = tolerance.atol + tolerance.rtol * torch.maximum(values[j].abs(), point[j].abs())
            worst = max(worst, float((error / scale).flatten(1).square().mean(1).sqrt().max()))
        if not math.isfinite(worst):
            raise DiffusionError(f"the probability-flow ODE is not finite near log(sigma/alpha) = {at:g}")
        if worst <= 1.0:
            # `point` is the fifth-order result and its slope starts the next step (first same as last).
            at, values, slopes = at + h, point, stages[-1]
            if abs(end - at) <= 1e-12 * max(1.0, abs(end)):
                return values
        step *= min(5.0, max(0.2, 0.9 * max(worst, 1e-10) ** -0.2))
    raise DiffusionError(
        f"dormand_prince needs more than {tolerance.max_steps} steps: stopped at log(sigma/alpha) = {at:g} of {end:g}. "
        "Loosen rtol and atol or raise max_steps."
    )


def _combine(value: Tensor, stages: list[list[Tensor]], row: Sequence[float], h: float, j: int) -> Tensor:
    result = value.clone()
    for weight, stage in zip(row, stages, strict=True):
        if weight != 0.0:
            result.add_(stage[j], alpha=h * weight)
    return result


def at_log_ratio(schedule: Schedule, level: float) -> tuple[float, Scalars]:
    """The time with log(sigma/alpha) = level, kept within [0, 1], and the schedule there."""
    t = min(max(time_of_ratio(schedule, math.exp(level)), 0.0), 1.0)
    return t, scalars(schedule, t)


def dormand_prince(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    tolerance: Tolerance | None = None,
) -> Tensor:
    """Solve the probability-flow ODE adaptively through the given times (Song et al. 2021, Sec. 4.3).

    Between times steps are chosen by `tolerance`; constraint and callback act at the given times. Where alpha = 0 the first
    step is an Euler step to t_max; a last time of 0 is reached from t_min by the clean estimate.
    """
    run = Run(
        "dormand_prince", denoise, x, times, generator=generator, constraint=constraint, callback=callback
    )
    tolerance = tolerance or Tolerance()
    low = min(run.schedule.t_min, 1e-3)
    x = run.begin(x)
    sample = x
    for i in range(run.steps):
        before, t, s = x, run.times[i], run.times[i + 1]
        if run.at[i].alpha <= 0.0:
            t = max(run.schedule.t_max, 0.5 * (t + s))
            sample = run.sample(x, run.times[i])
            x = _to(x, sample, run.at[i], scalars(run.schedule, t))
        stop = s if s > 0.0 else min(low, 0.5 * t)
        here, there = scalars(run.schedule, t), scalars(run.schedule, stop)

        def derivative(level: float, values: Sequence[Tensor]) -> list[Tensor]:
            time, c = at_log_ratio(run.schedule, level)
            return [values[0] - run.probe(c.alpha * values[0], time)]

        (y,) = integrate(derivative, [x / here.alpha], math.log(here.ratio), math.log(there.ratio), tolerance)
        x = there.alpha * y
        if s == 0.0:
            sample = run.sample(x, stop)
            x = _to(x, sample, there, run.at[-1])
        x = run.after(i, x, before, sample)
    return run.finish(x)


def _to(x: Tensor, sample: Tensor, t: Scalars, s: Scalars) -> Tensor:
    """One DDIM step."""
    kept = s.sigma / t.sigma
    return torch.add(kept * x, sample, alpha=s.alpha - kept * t.alpha)
