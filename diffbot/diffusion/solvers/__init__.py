"""Solvers by name: `solver_by_name("ddim")(denoise, x, times, generator=...)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from diffbot.diffusion.errors import unknown
from diffbot.diffusion.solvers.ancestral import ddim, ddpm
from diffbot.diffusion.solvers.flow import euler, heun
from diffbot.diffusion.solvers.run import StepInfo

__all__ = ["SOLVERS", "Solver", "StepInfo", "ddim", "ddpm", "euler", "heun", "solver_by_name"]


@dataclass(frozen=True)
class Solver:
    """A solver and what is known about it. Calling it solves.

    order: of convergence in the step size, None for stochastic ones; evaluations: of the denoiser per step (None: adaptive).
    family: "any" schedule, or the one it needs.
    """

    name: str
    function: Callable[..., Tensor]
    order: int | None
    stochastic: bool
    evaluations: int | None
    family: Literal["any", "flow"] = "any"
    spacing: str = "uniform"

    def __call__(self, *arguments: Any, **options: Any) -> Tensor:
        return self.function(*arguments, **options)


_ALL = (
    Solver("ddpm", ddpm, None, True, 1),
    Solver("ddim", ddim, 1, False, 1),
    Solver("euler", euler, 1, False, 1, "flow"),
    Solver("heun", heun, 2, False, 2, "flow"),
)

SOLVERS: dict[str, Solver] = {solver.name: solver for solver in _ALL}


def solver_by_name(name: str) -> Solver:
    """The solver of this name; DiffusionError names the nearest match and all others."""
    if name not in SOLVERS:
        raise unknown("solver", name, SOLVERS)
    return SOLVERS[name]
