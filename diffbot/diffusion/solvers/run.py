"""What every solver shares: checked inputs, the schedule at all times, hooks around each step, a finite result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Scalars, Schedule, noise_like, scalars


@dataclass(frozen=True)
class StepInfo:
    """What a callback sees after each step: x at time `t`, the last clean estimate, and the step's index."""

    step: int
    t: float
    x: Tensor
    sample: Tensor


Callback = Callable[[StepInfo], None]


class Run:
    """One solve: times as Python numbers, coefficients computed once, constraint and callback applied in one place."""

    def __init__(
        self,
        solver: str,
        denoise: Denoise,
        x: Tensor,
        times: Tensor,
        *,
        generator: torch.Generator | None = None,
        constraint: Constraint | None = None,
        callback: Callback | None = None,
    ) -> None:
        self.solver, self._denoise = solver, denoise
        self._generator, self._constraint, self._callback = generator, constraint, callback
        self.schedule = _schedule(solver, denoise)
        self.times = checked_times(solver, times)
        if x.dim() < 1 or not x.is_floating_point():
            raise DiffusionError(
                f"{solver} needs x of shape [B, ...] and a float dtype, not {list(x.shape)} {x.dtype}"
            )
        self.at: list[Scalars] = [scalars(self.schedule, t) for t in self.times]
        self.steps = len(self.times) - 1
        if constraint is not None:
            constraint.check(x)

    def begin(self, x: Tensor) -> Tensor:
        """x as the first evaluation sees it."""
        return x if self._constraint is None else self._constraint.on_state(x, self.times[0], None)

    def sample(self, x: Tensor, t: float) -> Tensor:
        """The constrained estimate of the clean sample."""
        x0 = self._denoise(x, t)
        if x0.shape != x.shape:
            raise DiffusionError(f"{self.solver}: denoise made {list(x0.shape)} of x {list(x.shape)}")
        return x0 if self._constraint is None else self._constraint.on_sample(x0, t)

    def probe(self, x: Tensor, t: float) -> Tensor:
        """The clean estimate at an intermediate point of a step."""
        if self._constraint is not None:
            x = self._constraint.on_state(x, t, None)
        return self.sample(x, t)

    def noise(self, x: Tensor) -> Tensor:
        """Fresh standard normal noise like x."""
        return noise_like(x, self._generator, f"solver '{self.solver}'")

    def after(self, step: int, x: Tensor, previous: Tensor, sample: Tensor) -> Tensor:
        """x after step `step`, now at times[step + 1]: constrained and shown to the callback."""
        t = self.times[step + 1]
        if self._constraint is not None:
            x = self._constraint.on_state(x, t, previous)
        if self._callback is not None:
            self._callback(StepInfo(step, t, x, sample))
        return x

    def finish(self, x: Tensor) -> Tensor:
        """The result, refused when it is not finite."""
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            return x  # a captured graph cannot read values
        if not bool(torch.isfinite(x).all()):
            raise DiffusionError(
                f"solver '{self.solver}' on schedule '{self.schedule.name}' gave non-finite values: the denoiser's output "
                f"or the start is not finite, or {self.steps} steps from t={self.times[0]:g} are unstable"
            )
        return x


def checked_times(solver: str, times: Tensor) -> list[float]:
    """Times as floats. Raises DiffusionError unless they are at least two, in [0, 1] and strictly decreasing."""
    if times.dim() != 1 or times.numel() < 2:
        raise DiffusionError(
            f"{solver} needs times [steps + 1] with steps >= 1, not shape {list(times.shape)}"
        )
    values: list[float] = times.double().tolist()
    for before, after in pairwise(values):
        if not before > after:
            raise DiffusionError(
                f"{solver} needs strictly decreasing times (1 = noise); {before:g} is followed by {after:g}"
            )
    if not (values[0] <= 1.0 and values[-1] >= 0.0):
        raise DiffusionError(f"{solver} needs times in [0, 1], not from {values[0]:g} to {values[-1]:g}")
    if times.dtype != torch.float64:
        # A float32 time carries 1e-8 of rounding; grids are k / K with K far below 1e6.
        values = [round(value, 7) for value in values]
    return values


def _schedule(solver: str, denoise: Denoise) -> Schedule:
    schedule = getattr(denoise, "schedule", None)
    if not isinstance(schedule, Schedule):
        raise DiffusionError(
            f"{solver} needs a denoise function with a .schedule, not {type(denoise).__name__}: "
            "wrap it as DenoiseFunction(function, schedule)"
        )
    return schedule


def needs_alpha(run: Run, variable: str) -> None:
    """Refuse a start where alpha = 0 for solvers whose variable is infinite there."""
    if run.at[0].alpha <= 0.0:
        raise DiffusionError(
            f"solver '{run.solver}' integrates over {variable}, which is infinite at t={run.times[0]:g} of schedule "
            f"'{run.schedule.name}' (alpha = 0). Start below (t = {run.schedule.t_max:g}), or use 'euler', 'heun' or 'ddim'."
        )
