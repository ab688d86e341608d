"""Every solver on mixtures with a known density: error against network evaluations, order, likelihood, oracle."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.diffusion import (
    SOLVERS,
    RectifiedFlow,
    Schedule,
    Solver,
    VPCosine,
    VPLinear,
    prior_noise,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.analytic import GaussianMixture, random_mixture
from diffbot.diffusion.likelihood import log_likelihood
from diffbot.diffusion.schedule import time_of_ratio
from diffbot.diffusion.solvers import Tolerance
from diffbot.evaluation.bench import BenchResult

SUMMARY = "Solvers on mixtures of known density: sliced 2-Wasserstein distance against network evaluations, order, likelihood."


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    samples: int = 1000  # generated samples per distance
    seeds: int = 2  # independent draws per entry, the same for every solver
    budgets: tuple[int, ...] = (5, 10, 20, 50)  # network evaluations
    oracle: bool = True  # compare with diffusers step by step
    figure: str = "docs/figures/solvers.png"  # where the figure is written ("" for none)


def run(config: Config) -> BenchResult:
    """Measure; see `SUMMARY`. All denoisers are closed forms, so the only error is the solver's (and sampling)."""
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    for dimension in (2, 16):
        known = random_mixture(4, dimension, torch.Generator().manual_seed(dimension))
        floor = [_floor(known, config.samples, seed) for seed in range(config.seeds)]
        figures[f"w2.floor.{dimension}d"] = float(np.mean(floor))
        for solver in SOLVERS.values():
            if solver.name != "consistency":  # needs a distilled model
                rows += [
                    _row(solver, known, budget, config) for budget in config.budgets if _fits(solver, budget)
                ]
    for dimension, suffix in ((2, ""), (16, ".16d")):
        figures[f"w2.dpmpp.10{suffix}"] = _find(rows, "dpmpp_2m", dimension, 10)
        figures[f"w2.ddim.50{suffix}"] = _find(rows, "ddim", dimension, 50)
        figures[f"rms.dpmpp.10{suffix}"] = _find(rows, "dpmpp_2m", dimension, 10, "rms")
        figures[f"rms.ddim.50{suffix}"] = _find(rows, "ddim", dimension, 50, "rms")
    for solver in SOLVERS.values():
        if not solver.stochastic and solver.evaluations is not None:
            figures[f"order.{solver.name}"] = observed_order(solver)
    figures["loglik.abs_error"] = _likelihood_error()
    if config.oracle:
        from benchmarks._diffusers_oracle import ORACLES

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            differences = {name: case() for name, case in ORACLES.items()}
        figures["oracle.max_abs_diff"] = max(differences.values())
        figures["oracle.cases"] = len(differences)
    if config.figure:
        _draw(rows, figures, Path(config.figure))
    notes = (
        f"w2: sliced 2-Wasserstein distance (64 directions) of {config.samples} samples to the quantiles of 200,000 exact ones, "
        f"mean of {config.seeds} seeds; w2.floor is that of {config.samples} exact samples, so differences near it mean nothing. "
        "rms: distance of each sample to the end of its own exact ODE trajectory (deterministic solvers), which has no floor. "
        "Mixtures of 4 full-covariance Gaussians, analytic denoiser; rectified_flow for euler and heun, vp_linear else; each "
        "solver with its usual spacing."
    )
    return BenchResult(figures, rows, list(range(config.seeds)), notes)


def _fits(solver: Solver, budget: int) -> bool:
    return solver.evaluations is not None and budget // solver.evaluations >= 2


def _schedule(solver: Solver) -> Schedule:
    return RectifiedFlow() if solver.family == "flow" else VPLinear()


def _row(solver: Solver, known: GaussianMixture, budget: int, config: Config) -> dict[str, Any]:
    """One table row: the solver at a budget of evaluations."""
    schedule = _schedule(solver)
    denoise = known.denoiser(schedule)
    assert solver.evaluations is not None
    steps = budget // solver.evaluations
    # Few steps cannot afford a tiny last noise level: it falls as 1/steps.
    options = {"end": time_of_ratio(schedule, 0.5 / steps)} if solver.spacing in ("log_snr", "karras") else {}
    times = spacing(solver.spacing, **options)(schedule, steps)
    distances, errors, used = [], [], 0
    for seed in range(config.seeds):
        generator = torch.Generator().manual_seed(1000 + seed)
        x = prior_noise(schedule, (config.samples, known.dimension), generator, dtype=torch.float64)
        counted = _Counted(denoise)
        samples = solver(counted, x, times, generator=generator)
        used = counted.calls
        distances.append(sliced_wasserstein2(samples, known))
        if not solver.stochastic:
            errors.append(float((samples - _exact_ode(known, schedule, x)).square().sum(1).mean().sqrt()))
    row: dict[str, Any] = {
        "solver": solver.name,
        "dimension": known.dimension,
        "budget": budget,
        "evaluations": used,
        "w2": float(np.mean(distances)),
        "w2_std": float(np.std(distances, ddof=1)) if len(distances) > 1 else 0.0,
    }
    if errors:
        row["rms"] = float(np.mean(errors))
    return row


class _Counted:
    """A denoiser that counts its calls."""

    def __init__(self, denoise: Any) -> None:
        self.denoise, self.schedule, self.calls = denoise, denoise.schedule, 0

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.denoise(x, t)
        return result


_EXACT: dict[tuple[int, str, float], Tensor] = {}


def _exact_ode(known: GaussianMixture, schedule: Schedule, x: Tensor) -> Tensor:
    """Where the probability-flow ODE takes x, by 200 steps of the third-order solver; remembered between rows."""
    key = (known.dimension, schedule.name, float(x.sum()))
    if key not in _EXACT:
        times = spacing("log_snr")(schedule, 200)
        _EXACT[key] = solver_by_name("dpmpp_3m")(known.denoiser(schedule), x, times)
    return _EXACT[key]


def sliced_wasserstein2(samples: Tensor, known: GaussianMixture) -> float:
    """Sliced 2-Wasserstein distance [N, D] -> root mean square over 64 fixed directions of the 1-D distance.

    The 1-D distance compares sorted samples with the quantiles of 200,000 exact ones: little noise of its own.
    """
    directions, quantiles = _reference(known, len(samples))
    mine = (samples @ directions).sort(dim=0).values
    return float((mine - quantiles).square().mean().sqrt())


_QUANTILES: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}


def _reference(known: GaussianMixture, count: int) -> tuple[Tensor, Tensor]:
    key = (known.dimension, count)
    if key not in _QUANTILES:
        generator = torch.Generator().manual_seed(77)
        directions = torch.randn(known.dimension, 64, generator=generator, dtype=torch.float64)
        directions = directions / directions.norm(dim=0)
        exact = (known.draw(200_000, generator) @ directions).sort(dim=0).values
        ranks = ((torch.arange(count, dtype=torch.float64) + 0.5) / count * len(exact)).long()
        _QUANTILES[key] = (directions, exact[ranks])
    return _QUANTILES[key]


def _floor(known: GaussianMixture, samples: int, seed: int) -> float:
    return sliced_wasserstein2(known.draw(samples, torch.Generator().manual_seed(2000 + seed)), known)


def observed_order(solver: Solver) -> float:
    """log2 of the error ratio from 80 to 160 steps between t = 0.9 and 0.05, against a tight adaptive solution."""
    schedule: Schedule = RectifiedFlow() if solver.family == "flow" else VPCosine()
    denoise = random_mixture(3, 2, torch.Generator().manual_seed(0)).denoiser(schedule)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = torch.tensor([0.9, 0.05], dtype=torch.float64)
    exact = solver_by_name("dormand_prince")(denoise, x, ends, tolerance=Tolerance(1e-11, 1e-12))
    options: dict[str, Any] = {} if solver.family == "flow" else {"final_zero": False}
    grid = spacing("uniform" if solver.family == "flow" else "log_snr", start=0.9, end=0.05, **options)
    errors = [
        float((solver(denoise, x, grid(schedule, n)) - exact).square().mean().sqrt()) for n in (80, 160)
    ]
    return float(np.log2(errors[0] / errors[1]))


def _likelihood_error() -> float:
    """Largest error in nats over 100 points of the mixtures in 2 and 16 dimensions, exact divergence."""
    worst = 0.0
    for dimension in (2, 16):
        known = random_mixture(4, dimension, torch.Generator().manual_seed(dimension))
        points = known.draw(100, torch.Generator().manual_seed(5))
        value = log_likelihood(known.denoiser(VPLinear()), points)
        worst = max(worst, float((value - known.log_prob(points)).abs().max()))
    return worst


def _find(rows: list[dict[str, Any]], solver: str, dimension: int, budget: int, key: str = "w2") -> float:
    found = [r for r in rows if (r["solver"], r["dimension"], r["budget"]) == (solver, dimension, budget)]
    if not found:
        raise ValueError(f"the figure needs {budget} among the budgets for {solver}")
    return float(found[0][key])


def _draw(rows: list[dict[str, Any]], figures: dict[str, Any], path: Path) -> None:
    """Distance against evaluations for a readable choice of solvers, and the error of the ODE beside it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    chosen = ("ddpm", "ddim", "edm_heun", "dpm_solver_2", "dpmpp_2m", "dpmpp_3m", "dpmpp_sde_2m", "heun")
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for i, dimension in enumerate((2, 16)):
        for j, (key, title) in enumerate(
            (("w2", "sliced W2 to exact samples"), ("rms", "error of the ODE's end point"))
        ):
            axes = figure.add_subplot(2, 2, 2 * i + j + 1)
            for name in chosen:
                points = [r for r in rows if r["solver"] == name and r["dimension"] == dimension and key in r]
                if points:
                    axes.loglog(
                        [r["evaluations"] for r in points], [r[key] for r in points], "o-", ms=3, label=name
                    )
            if key == "w2":
                axes.axhline(figures[f"w2.floor.{dimension}d"], color="grey", ls=":", label="exact samples")
            axes.set(title=f"{title}, {dimension}-D", xlabel="network evaluations", ylabel=key)
            axes.set_xticks([5, 10, 20, 50], ["5", "10", "20", "50"])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.legend(fontsize=7)
            axes.grid(alpha=0.3, which="both")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
