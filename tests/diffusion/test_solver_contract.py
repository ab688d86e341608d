"""What holds for every solver: inference mode, shapes, dtypes, seeds, callbacks, and errors that name both sides."""

from __future__ import annotations

import pytest
import torch
from diffusion_cases import normal, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffbot.diffusion import (
    EDM,
    SOLVERS,
    DenoiseFunction,
    Denoiser,
    DiffusionError,
    RectifiedFlow,
    Schedule,
    Solver,
    StepInfo,
    VPCosine,
    VPLinear,
    prediction_by_name,
    prior_noise,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.selection import best_of, mode_of, resample, sample_variance
from diffbot.diffusion.solvers import Churn

by_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=lambda s: s.name)


def setting(solver: Solver) -> tuple[DenoiseFunction, Tensor]:
    """An element-wise denoiser: what happens to a sample cannot depend on its neighbours."""
    schedule: Schedule = RectifiedFlow() if solver.family == "flow" else VPLinear()

    def function(x: Tensor, t: float | Tensor) -> Tensor:
        return (0.6 * torch.tanh(x) + 0.05 * x) * (1.0 - 0.3 * float(t))

    return DenoiseFunction(function, schedule), spacing(solver.spacing)(schedule, 6)


@by_solver
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=4, deadline=None)
def test_any_shape_and_precision_and_the_seed_alone_decides(
    solver: Solver, shape: list[int], seed: int
) -> None:
    denoise, times = setting(solver)

    def solve(dtype: torch.dtype, start_seed: int = seed) -> Tensor:
        generator = seeded(start_seed)
        x = prior_noise(denoise.schedule, (2, *shape), generator, dtype=dtype)
        with torch.inference_mode():
            return solver(denoise, x, times, generator=generator)

    torch.manual_seed(0)
    single = solve(torch.float32)
    torch.manual_seed(1)  # the global generator is not read
    assert torch.equal(solve(torch.float32), single)
    assert single.shape == (2, *shape) and single.dtype == torch.float32
    double = solve(torch.float64)
    assert double.dtype == torch.float64
    # The adaptive solver chooses its steps from the values.
    tolerance = 1e-3 if solver.evaluations is None else 1e-4
    torch.testing.assert_close(single.double(), double, rtol=tolerance, atol=tolerance)
    assert not torch.equal(solve(torch.float32, seed + 1), single)


@by_solver
def test_input_is_left_alone_and_every_step_is_reported(solver: Solver) -> None:
    denoise, times = setting(solver)
    x = normal(3, 5)
    before, seen = x.clone(), list[StepInfo]()
    result = solver(denoise, x, times, generator=seeded(1), callback=seen.append)
    assert torch.equal(x, before)
    assert [info.t for info in seen] == [float(t) for t in times[1:]]
    assert [info.step for info in seen] == list(range(len(times) - 1))
    assert torch.equal(seen[-1].x, result)


@pytest.mark.parametrize(
    "solver", [s for s in SOLVERS.values() if s.evaluations == 1 or not s.stochastic], ids=lambda s: s.name
)
def test_a_sample_does_not_depend_on_its_batch(solver: Solver) -> None:
    if solver.stochastic:
        pytest.skip("one generator serves the whole batch")
    denoise, times = setting(solver)
    x = normal(4, 3)
    together = solver(denoise, x, times)
    alone = torch.cat([solver(denoise, x[i : i + 1], times) for i in range(4)])
    tolerance = 1e-4 if solver.evaluations is None else 1e-12
    torch.testing.assert_close(alone, together, rtol=tolerance, atol=tolerance)


@by_solver
def test_stated_evaluations_are_the_counted_ones(solver: Solver) -> None:
    if solver.evaluations is None:
        pytest.skip("adaptive")
    denoise, _ = setting(solver)
    calls = 0

    def counted(x: Tensor, t: float | Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return denoise(x, t)

    times = torch.linspace(0.9, 0.1, 6, dtype=torch.float64)
    solver(DenoiseFunction(counted, denoise.schedule), normal(2, 3), times, generator=seeded(0))
    assert calls == 5 * solver.evaluations + (1 if solver.name.endswith("3m") else 0)


@by_solver
def test_stochastic_solvers_ask_for_a_generator(solver: Solver) -> None:
    denoise, times = setting(solver)
    if solver.stochastic:
        with pytest.raises(DiffusionError, match="pass generator="):
            solver(denoise, normal(2, 3), times)
    else:
        solver(denoise, normal(2, 3), times)


@by_solver
@pytest.mark.parametrize(
    ("times", "text"),
    [
        ([0.5, 0.5, 0.0], "0.5 is followed by 0.5"),
        ([0.0, 0.5, 1.0], "strictly decreasing"),
        ([1.5, 0.5, 0.0], r"in \[0, 1\]"),
        ([1.0], "steps >= 1"),
        ([float("nan"), 0.0], "strictly decreasing"),
    ],
)
def test_bad_times_are_refused(solver: Solver, times: list[float], text: str) -> None:
    denoise, _ = setting(solver)
    with pytest.raises(DiffusionError, match=text):
        solver(denoise, normal(2, 3), torch.tensor(times), generator=seeded(0))


@by_solver
def test_never_nan_out(solver: Solver) -> None:
    denoise, times = setting(solver)
    broken = DenoiseFunction(lambda x, t: x * float("nan"), denoise.schedule)
    with pytest.raises(DiffusionError, match="finite"):
        solver(broken, normal(2, 3), times, generator=seeded(0))


@by_solver
@pytest.mark.parametrize("schedule", [VPLinear(), VPCosine(), EDM(), RectifiedFlow()], ids=lambda s: s.name)
def test_every_pair_of_solver_and_schedule_solves_or_says_why(solver: Solver, schedule: Schedule) -> None:
    denoise = Denoiser(lambda x, t, c: torch.tanh(x), schedule, prediction_by_name("edm"))
    x = prior_noise(schedule, (4, 3), seeded(2))
    for name in ("uniform", "log_snr", "karras"):
        try:
            result = solver(denoise, x, spacing(name)(schedule, 5), generator=seeded(0))
        except DiffusionError as error:
            assert solver.name.split("_")[0] in str(error) and schedule.name in str(error)
            assert solver.family == "flow" or schedule.family == "flow"
        else:
            assert bool(torch.isfinite(result).all())


def test_a_flow_solver_on_a_vp_model_names_both_and_the_way_out() -> None:
    denoise = Denoiser(lambda x, t, c: x, VPLinear(), prediction_by_name("noise"))
    with pytest.raises(
        DiffusionError, match=r"'euler'.*rectified_flow.*'vp_linear'.*convert\(denoise, RectifiedFlow"
    ):
        solver_by_name("euler")(denoise, normal(2, 3), spacing("uniform")(VPLinear(), 5))


def test_other_bad_input() -> None:
    denoise, times = setting(SOLVERS["ddim"])
    with pytest.raises(DiffusionError, match="Did you mean 'dpmpp_2m'"):
        solver_by_name("dpmp_2m")
    with pytest.raises(DiffusionError, match=r"eta of ddim lies in \[0, 1\]"):
        solver_by_name("ddim")(denoise, normal(2, 3), times, eta=1.5)
    with pytest.raises(DiffusionError, match=r"float dtype, not \[2, 3\] torch.int64"):
        solver_by_name("ddim")(denoise, torch.zeros(2, 3, dtype=torch.int64), times)
    with pytest.raises(DiffusionError, match=r"needs a denoise function with a .schedule"):
        solver_by_name("ddim")(lambda x, t: x, normal(2, 3), times)
    with pytest.raises(DiffusionError, match="orders 1 to 3, not 4"):
        solver_by_name("dpmpp_2m").function(denoise, normal(2, 3), times, order=4)
    with pytest.raises(DiffusionError, match="churn needs"):
        Churn(-1.0)


def test_selection_among_candidates() -> None:
    candidates = torch.tensor([[[0.0], [0.1], [5.0]], [[9.0], [2.0], [2.1]]])
    scores = torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 1.0]])
    assert best_of(candidates, scores).tolist() == [[pytest.approx(0.1)], [9.0]]
    cold = resample(candidates, scores, seeded(0), temperature=1e-3)
    assert torch.equal(cold, best_of(candidates, scores))
    # The mean of the first set is 1.7, between its modes; the mode is not.
    assert float(mode_of(candidates, bandwidth=0.2)[0]) == pytest.approx(0.05, abs=0.01)
    assert float(mode_of(candidates, bandwidth=0.2)[1]) == pytest.approx(2.05, abs=0.01)
    torch.testing.assert_close(sample_variance(candidates), candidates.var(dim=1)[:, 0])
    with pytest.raises(DiffusionError, match="do not fit"):
        best_of(candidates, scores[:, :2])
    with pytest.raises(DiffusionError, match="NaN"):
        best_of(candidates, scores * float("nan"))
