"""Every solver's samples converge to the known density, in 2 and 16 dimensions; consistency sampling with the exact map."""

from __future__ import annotations

import pytest
import torch
from diffusion_cases import mixture, moments_match, normal, seeded
from torch import Tensor

from diffbot.diffusion import (
    EDM,
    SOLVERS,
    DenoiseFunction,
    RectifiedFlow,
    Schedule,
    Solver,
    VPLinear,
    prior_noise,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.solvers import Tolerance

# Steps at which the discretisation error is below what 800 samples can see.
STEPS = {"ddpm": 500, "predictor_corrector": 400, "euler_maruyama": 400, "ddim": 300, "euler": 300}
SAMPLED = [s for s in SOLVERS.values() if s.name != "consistency"]


@pytest.mark.parametrize("dimension", [2, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("solver", SAMPLED, ids=lambda s: s.name)
def test_samples_have_the_known_density(solver: Solver, dimension: int) -> None:
    known = mixture(dimension)
    schedule: Schedule = RectifiedFlow() if solver.family == "flow" else VPLinear()
    steps = STEPS.get(solver.name, 300 if solver.order == 1 or solver.stochastic else 60)
    if dimension == 16 and (solver.order == 1 or solver.stochastic):
        steps *= 2
    times = spacing("uniform" if solver.name in STEPS else solver.spacing)(schedule, steps)
    if solver.evaluations is None:
        times = torch.tensor([1.0, 0.0], dtype=torch.float64)
    generator = seeded(5)
    x = prior_noise(schedule, (800, dimension), generator, dtype=torch.float64)
    samples = solver(known.denoiser(schedule), x, times, generator=generator)
    moments_match(samples, known)


def test_churned_edm_samples_have_the_known_density() -> None:
    from diffbot.diffusion.solvers import Churn

    known, schedule, generator = mixture(), EDM(), seeded(6)
    x = prior_noise(schedule, (2000, 2), generator, dtype=torch.float64)
    times = spacing("karras")(schedule, 80)
    churn = Churn(20.0, 0.01, 50.0)
    moments_match(
        solver_by_name("edm_heun")(known.denoiser(schedule), x, times, generator=generator, churn=churn),
        known,
    )


def exact_consistency(schedule: Schedule) -> DenoiseFunction:
    """The true consistency function of a mixture: the end of the ODE from (x, t)."""
    denoise = mixture().denoiser(schedule)

    def function(x: Tensor, t: float | Tensor) -> Tensor:
        times = torch.tensor([float(t), 0.0], dtype=torch.float64)
        return solver_by_name("dormand_prince")(denoise, x, times, tolerance=Tolerance(1e-5, 1e-6))

    return DenoiseFunction(function, schedule)


@pytest.mark.parametrize("times", [[1.0, 0.0], [1.0, 0.4, 0.0]], ids=["one step", "two steps"])
def test_consistency_sampling_with_the_exact_map(times: list[float]) -> None:
    schedule, generator = VPLinear(), seeded(7)
    x = prior_noise(schedule, (2000, 2), generator, dtype=torch.float64)
    samples = solver_by_name("consistency")(
        exact_consistency(schedule), x, torch.tensor(times, dtype=torch.float64), generator=generator
    )
    moments_match(samples, mixture())


def test_low_temperature_draws_nearer_the_mode() -> None:
    known, schedule = mixture(2, 1), VPLinear()
    times = spacing("uniform")(schedule, 200)
    spreads = []
    for temperature in (0.0, 0.5, 1.0):
        generator = seeded(8)
        x = prior_noise(schedule, (500, 2), generator, dtype=torch.float64, temperature=temperature)
        samples = solver_by_name("ddpm")(
            known.denoiser(schedule), x, times, generator=generator, temperature=temperature
        )
        spreads.append(float(samples.var(0).sum()))
    assert spreads[0] < 1e-12 < spreads[1] < 0.5 * spreads[2]


def test_fewer_steps_are_worse() -> None:
    """The distance to the exact ODE falls with the steps, for the solver that policies use most."""
    known, schedule = mixture(), VPLinear()
    x = normal(200, 2)
    exact = solver_by_name("dpmpp_3m")(known.denoiser(schedule), x, spacing("log_snr")(schedule, 400))
    errors = []
    for steps in (5, 10, 20, 40):
        samples = solver_by_name("dpmpp_2m")(known.denoiser(schedule), x, spacing("log_snr")(schedule, steps))
        errors.append(float((samples - exact).square().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02 * errors[0]
