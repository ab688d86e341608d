"""Order of convergence of every deterministic solver, and the equalities between solvers that the papers state."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusion_cases import mixture, normal, seeded
from torch import Tensor

from diffbot.diffusion import (
    EDM,
    SOLVERS,
    Denoise,
    DenoiseFunction,
    RectifiedFlow,
    Schedule,
    Solver,
    VPCosine,
    VPDiscreteLinear,
    VPLinear,
    VPSquaredCosine,
    convert,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.solvers import Churn, Tolerance, dpm_sde

FIXED_STEP = [s for s in SOLVERS.values() if not s.stochastic and s.evaluations is not None]


def observed_order(solver: Solver, denoise: Denoise, counts: tuple[int, int] = (80, 160)) -> float:
    """log2 of the error ratio when the steps are halved, against a tight adaptive solution, ending above t = 0."""
    options = {} if solver.family == "flow" else {"final_zero": False}
    grid = spacing("uniform" if solver.family == "flow" else "log_snr", start=0.9, end=0.05, **options)
    x = normal(64, 2)
    exact = solver_by_name("dormand_prince")(
        denoise, x, torch.tensor([0.9, 0.05], dtype=torch.float64), tolerance=Tolerance(1e-11, 1e-12)
    )
    errors = [
        float((solver(denoise, x, grid(denoise.schedule, n)) - exact).square().mean().sqrt()) for n in counts
    ]
    return float(torch.log2(torch.tensor(errors[0] / errors[1])))


@pytest.mark.parametrize("solver", FIXED_STEP, ids=lambda s: s.name)
def test_observed_order_is_the_nominal_one(solver: Solver) -> None:
    schedule: Schedule = RectifiedFlow() if solver.family == "flow" else VPCosine()
    assert observed_order(solver, mixture().denoiser(schedule)) == pytest.approx(solver.order, abs=0.25)


def test_dormand_prince_keeps_its_tolerance() -> None:
    """The error falls with the tolerance, and a crude tolerance takes fewer evaluations."""
    x, times = normal(32, 2), torch.tensor([1.0, 0.05], dtype=torch.float64)
    base = mixture().denoiser(VPLinear())
    count = 0

    def counted(x: Tensor, t: float | Tensor) -> Tensor:
        nonlocal count
        count += 1
        return base(x, t)

    calls, results = [], []
    for rtol in (1e-12, 1e-7, 1e-5, 1e-3):
        count = 0
        denoise = DenoiseFunction(counted, VPLinear())
        results.append(
            solver_by_name("dormand_prince")(denoise, x, times, tolerance=Tolerance(rtol, rtol / 10))
        )
        calls.append(count)
    errors = [float((result - results[0]).abs().max()) for result in results]
    assert calls[0] > calls[1] > calls[2] > calls[3]
    assert errors[1] < 1e-5 and errors[2] < 1e-3 and errors[3] < 0.1


def test_ddim_is_dpm_solver_1_and_edm_euler_on_every_schedule() -> None:
    for schedule in (VPLinear(), VPSquaredCosine(50), EDM()):
        denoise, x = mixture().denoiser(schedule), normal(16, 2) * schedule.prior_std
        times = spacing("log_snr")(schedule, 15)
        ddim = solver_by_name("ddim")(denoise, x, times)
        for other in ("dpm_solver_1", "dpmpp_1", "edm_euler"):
            torch.testing.assert_close(solver_by_name(other)(denoise, x, times), ddim, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "schedule",
    [VPSquaredCosine(100), VPDiscreteLinear(200), VPLinear(), EDM(), RectifiedFlow()],
    ids=lambda s: s.name,
)
def test_ddim_with_eta_one_is_ddpm(schedule: Schedule) -> None:
    """Song, Meng & Ermon 2021, Sec. 4.1: on the full grid, with the same noise; it holds on every schedule."""
    denoise, x = mixture().denoiser(schedule), normal(16, 2) * schedule.prior_std
    times = spacing("uniform")(schedule, schedule.grid or 60)
    ddpm = solver_by_name("ddpm")(denoise, x, times, generator=seeded(4))
    ddim = solver_by_name("ddim")(denoise, x, times, generator=seeded(4), eta=1.0)
    torch.testing.assert_close(ddim, ddpm, rtol=1e-9, atol=1e-9)


def test_flow_euler_is_ddim_on_rectified_flow() -> None:
    denoise, x = mixture().denoiser(RectifiedFlow()), normal(16, 2)
    times = spacing("uniform")(RectifiedFlow(), 12)
    torch.testing.assert_close(
        solver_by_name("euler")(denoise, x, times), solver_by_name("ddim")(denoise, x, times)
    )


def test_sde_solver_of_order_one_is_ancestral_sampling() -> None:
    """SDE-DPM-Solver++-1 has the ancestral mean and variance (2022b, App. C), whatever the schedule."""
    for schedule in (VPLinear(), EDM()):
        denoise, x = mixture().denoiser(schedule), normal(16, 2) * schedule.prior_std
        times = spacing("log_snr")(schedule, 20)
        first = dpm_sde(denoise, x, times, generator=seeded(4), order=1)
        second = solver_by_name("ddpm")(denoise, x, times, generator=seeded(4))
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-8)


def test_churn_is_the_papers_algorithm() -> None:
    """Karras et al. 2022, Alg. 2, written out in sigma."""
    schedule, steps, churn = EDM(sigma_max=20.0), 9, Churn(5.0, 0.1, 15.0, 1.01)
    known = mixture()
    denoise, times = known.denoiser(schedule), spacing("karras")(EDM(sigma_max=20.0), 9)
    x = normal(8, 2) * 20.0
    mine = solver_by_name("edm_heun")(denoise, x, times, generator=seeded(9), churn=churn)
    generator = seeded(9)
    sigmas = [float(s) for s in schedule(times).sigma]

    def d(y: Tensor, sigma: float) -> Tensor:
        return (y - denoise(y, (sigma / 20.0) ** (1 / 7))) / sigma

    for here, there in pairwise(sigmas):
        gamma = min(churn.amount / steps, 2**0.5 - 1) if churn.low <= here <= churn.high else 0.0
        hat = here * (1 + gamma)
        if gamma > 0:
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float32).double()
            x = x + (hat**2 - here**2) ** 0.5 * churn.noise * noise
        slope = d(x, hat)
        new = x + (there - hat) * slope
        if there > 0:
            new = x + (there - hat) * 0.5 * (slope + d(new, there))
        x = new
    torch.testing.assert_close(mine, x, rtol=1e-7, atol=1e-7)


def test_flow_solver_runs_a_converted_vp_model() -> None:
    """Many Euler steps of the converted model end where the VP model's own ODE ends."""
    vp, flow = mixture().denoiser(VPCosine()), RectifiedFlow()
    x = normal(32, 2)
    # Both start from pure noise: at t = 1 on the flow, at t = 1 on the VP schedule.
    exact = solver_by_name("dpmpp_3m")(vp, x, spacing("log_snr")(VPCosine(), 400))
    ours = solver_by_name("heun")(convert(vp, flow), x, spacing("quadratic")(flow, 400))
    assert float((ours - exact).abs().mean()) < 0.02
