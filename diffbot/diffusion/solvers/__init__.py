"""Solvers by name: `solver_by_name("ddim")(denoise, x, times, generator=...)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor

from diffbot.diffusion.errors import unknown
from diffbot.diffusion.solvers.adaptive import Tolerance, dormand_prince
from diffbot.diffusion.solvers.ancestral import ddim, ddpm
from diffbot.diffusion.solvers.consistency import consistency
from diffbot.diffusion.solvers.dpm import dpm_multistep, dpm_sde, dpm_singlestep
from diffbot.diffusion.solvers.edm import Churn, edm_euler, edm_heun
from diffbot.diffusion.solvers.flow import euler, heun
from diffbot.diffusion.solvers.run import StepInfo
from diffbot.diffusion.solvers.sde import euler_maruyama, predictor_corrector

__all__ = [
    "SOLVERS",
    "Churn",
    "Solver",
    "StepInfo",
    "Tolerance",
    "consistency",
    "ddim",
    "ddpm",
    "dormand_prince",
    "dpm_multistep",
    "dpm_sde",
    "dpm_singlestep",
    "edm_euler",
    "edm_heun",
    "euler",
    "euler_maruyama",
    "heun",
    "predictor_corrector",
    "solver_by_name",
]


@dataclass(frozen=True)
class Solver:
    """A solver and what is known about it. Calling it solves.

    order: of convergence in the step size, None for stochastic ones; evaluations: of the denoiser per step (None: adaptive).
    family: "any" schedule, or the one it needs. spacing: the usual name of its times.
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
    Solver("edm_euler", edm_euler, 1, False, 1, spacing="karras"),
    Solver("edm_heun", edm_heun, 2, False, 2, spacing="karras"),
    *(
        Solver(
            f"dpm_solver_{order}",
            partial(dpm_singlestep, order=order, form="noise"),
            order,
            False,
            order,
            spacing="log_snr",
        )
        for order in (1, 2, 3)
    ),
    *(
        Solver(
            f"dpm_solver_{order}m",
            partial(dpm_multistep, order=order, form="noise"),
            order,
            False,
            1,
            spacing="log_snr",
        )
        for order in (2, 3)
    ),
    Solver("dpmpp_1", partial(dpm_singlestep, order=1), 1, False, 1, spacing="log_snr"),
    *(
        Solver(
            f"dpmpp_{order}s", partial(dpm_singlestep, order=order), order, False, order, spacing="log_snr"
        )
        for order in (2, 3)
    ),
    *(
        Solver(f"dpmpp_{order}m", partial(dpm_multistep, order=order), order, False, 1, spacing="log_snr")
        for order in (2, 3)
    ),
    Solver("dpm_sde_1", partial(dpm_sde, order=1, form="noise"), None, True, 1, spacing="log_snr"),
    Solver("dpm_sde_2m", partial(dpm_sde, order=2, form="noise"), None, True, 1, spacing="log_snr"),
    Solver("dpmpp_sde_1", partial(dpm_sde, order=1), None, True, 1, spacing="log_snr"),
    Solver("dpmpp_sde_2m", partial(dpm_sde, order=2), None, True, 1, spacing="log_snr"),
    Solver("euler_maruyama", euler_maruyama, None, True, 1),
    Solver("predictor_corrector", predictor_corrector, None, True, 2),
    Solver("dormand_prince", dormand_prince, 5, False, None),
    Solver("consistency", consistency, None, True, 1),
)

SOLVERS: dict[str, Solver] = {solver.name: solver for solver in _ALL}


def solver_by_name(name: str) -> Solver:
    """The solver of this name; DiffusionError names the nearest match and all others."""
    if name not in SOLVERS:
        raise unknown("solver", name, SOLVERS)
    return SOLVERS[name]
