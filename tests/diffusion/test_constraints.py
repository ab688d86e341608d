"""Constraints: known entries stay exact under every solver, bounds hold, projections see what they need."""

from __future__ import annotations

import math

import pytest
import torch
from diffusion_cases import mixture, normal, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffbot.diffusion import (
    SOLVERS,
    Clip,
    Denoiser,
    DiffusionError,
    Inpaint,
    Project,
    RectifiedFlow,
    Schedule,
    Solver,
    Threshold,
    Together,
    VPSquaredCosine,
    prediction_by_name,
    prior_noise,
    solver_by_name,
    spacing,
)

by_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=lambda s: s.name)


def denoiser(schedule: Schedule) -> Denoiser:
    weight = normal(3, 3)
    return Denoiser(lambda x, t, c: torch.tanh(x @ weight.to(x)), schedule, prediction_by_name("edm"))


def setting(solver: Solver) -> tuple[Denoiser, Tensor]:
    schedule: Schedule = RectifiedFlow() if solver.family == "flow" else VPSquaredCosine(100)
    return denoiser(schedule), spacing("uniform")(schedule, 8)


@by_solver
@given(seed=st.integers(0, 10_000), mode=st.sampled_from(["noised", "clean"]))
@settings(max_examples=5, deadline=None)
def test_inpainted_entries_are_exact(solver: Solver, seed: int, mode: str) -> None:
    denoise, times = setting(solver)
    generator = seeded(seed)
    mask = torch.rand(4, 3, generator=generator) < 0.4
    known = torch.randn(4, 3, generator=generator)
    x = prior_noise(denoise.schedule, (2, 4, 3), generator)
    result = solver(denoise, x, times, generator=generator, constraint=Inpaint(mask, known, mode))  # type: ignore[arg-type]
    expected = known.expand_as(result)
    assert torch.equal(result[mask.expand_as(result)], expected[mask.expand_as(result)])
    assert not torch.equal(result[~mask.expand_as(result)], expected[~mask.expand_as(result)]) or bool(
        mask.all()
    )


def test_inpainted_entries_follow_their_noised_path() -> None:
    """In mode "noised" a known entry is alpha known + sigma eps with one eps at every step of a deterministic solver."""
    denoise, times = setting(SOLVERS["ddim"])
    x, known, seen = normal(2, 4, 3), torch.full((3,), 0.3, dtype=torch.float64), []
    solver_by_name("ddim")(
        denoise, x, times, constraint=Inpaint(torch.tensor([1.0, 0, 0]), known), callback=seen.append
    )
    start = denoise.schedule(times[:1])
    eps = (x[..., 0] - start.alpha * 0.3) / start.sigma
    for info in seen:
        c = denoise.schedule(torch.tensor([info.t], dtype=torch.float64))
        torch.testing.assert_close(info.x[..., 0], c.alpha * 0.3 + c.sigma * eps, rtol=1e-6, atol=1e-8)


def test_inpainting_a_mixture_gives_its_conditional_prior_to_guidance() -> None:
    """On independent coordinates inpainting is exact conditioning: the free coordinate keeps its own density."""
    known = mixture(1, 2)
    schedule = VPSquaredCosine(100)
    double = known.denoiser(schedule)

    class Independent:
        def __init__(self) -> None:
            self.schedule = schedule

        def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
            return torch.cat([double(x[:, :1], t), double(x[:, 1:], t)], dim=1)

    x = normal(1500, 2)
    constraint = Inpaint(torch.tensor([True, False]), torch.tensor([0.5, 0.0]))
    samples = solver_by_name("dpmpp_2m")(
        Independent(), x, spacing("log_snr")(schedule, 60), constraint=constraint
    )
    exact = known.draw(100_000, seeded(2))
    assert bool((samples[:, 0] == 0.5).all())
    assert abs(float(samples[:, 1].mean() - exact.mean())) < 5 * float(exact.std()) / math.sqrt(1500)
    assert float(samples[:, 1].std()) == pytest.approx(float(exact.std()), rel=0.08)


def test_soft_weights_pull_between_free_and_known() -> None:
    denoise, times = setting(SOLVERS["ddim"])
    x, known = normal(64, 4, 3), torch.full((4, 3), 2.0, dtype=torch.float64)

    def mean_distance(weight: float) -> float:
        weights = torch.tensor([[weight], [0.0], [0.0], [0.0]])
        result = solver_by_name("ddim")(denoise, x, times, constraint=Inpaint(weights, known))
        return float((result[:, 0] - 2.0).abs().mean())

    distances = [mean_distance(weight) for weight in (0.0, 0.3, 0.7, 1.0)]
    assert distances == sorted(distances, reverse=True) and distances[-1] == 0.0


@by_solver
def test_clipped_samples_stay_inside(solver: Solver) -> None:
    denoise, times = setting(solver)
    wide = Denoiser(lambda x, t, c: 5.0 * torch.sign(x), denoise.schedule, prediction_by_name("sample"))
    generator = seeded(1)
    result = solver(
        wide,
        prior_noise(wide.schedule, (8, 3), generator),
        times,
        generator=generator,
        constraint=Clip(-0.5, 0.7),
    )
    assert float(result.min()) >= -0.5 and float(result.max()) <= 0.7


def test_dynamic_threshold_is_the_published_rule() -> None:
    x0 = normal(3, 40) * 4.0
    result = Threshold(0.9, 1.0).on_sample(x0, 0.5)
    for row, out in zip(x0, result, strict=True):
        s = max(float(torch.quantile(row.abs(), 0.9)), 1.0)
        torch.testing.assert_close(out, row.clamp(-s, s) / s)
    small = 0.5 * torch.tanh(x0)
    torch.testing.assert_close(Threshold().on_sample(small, 0.5), small)


def test_projection_on_the_state_sees_the_step() -> None:
    denoise, times = setting(SOLVERS["ddim"])
    seen: list[tuple[float, bool]] = []

    def keep_right(x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        seen.append((t, previous is None))
        return x.clamp(min=0.0)

    result = solver_by_name("ddim")(
        denoise, normal(4, 3), times, constraint=Project(keep_right, where="state")
    )
    assert float(result.min()) >= 0.0
    assert seen == [(float(t), i == 0) for i, t in enumerate(times)]


def test_together_applies_all_in_order() -> None:
    denoise, times = setting(SOLVERS["ddim"])
    both = Together(Clip(-1.0, 1.0), Inpaint(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([3.0, 0.0, 0.0])))
    result = solver_by_name("ddim")(denoise, normal(4, 3), times, constraint=both)
    assert bool((result[:, 0] == 3.0).all()) and float(result[:, 1:].abs().max()) <= 1.0


def test_what_does_not_fit_is_refused() -> None:
    denoise, times = setting(SOLVERS["ddim"])
    x = normal(2, 4, 3)
    with pytest.raises(
        DiffusionError, match=r"mask of shape \[5, 3\] do not broadcast to x of shape \[2, 4, 3\]"
    ):
        solver_by_name("ddim")(denoise, x, times, constraint=Inpaint(torch.ones(5, 3), torch.zeros(3)))
    with pytest.raises(DiffusionError, match=r"weights lie in \[0, 1\]"):
        Inpaint(torch.tensor([1.5]), torch.zeros(1))
    with pytest.raises(DiffusionError, match="not finite"):
        Inpaint(torch.ones(1), torch.tensor([float("nan")]))
    with pytest.raises(DiffusionError, match="low <= high"):
        Clip(1.0, -1.0)
    with pytest.raises(DiffusionError, match="the projection made"):
        solver_by_name("ddim")(denoise, x, times, constraint=Project(lambda x, t, previous: x[:1]))
