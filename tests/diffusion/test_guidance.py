"""Guidance against closed forms: tilted densities, conditionals, products, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from diffusion_cases import mixture, moments_match, normal, seeded
from torch import Tensor

from diffbot.diffusion import (
    Denoise,
    Denoiser,
    DiffusionError,
    RectifiedFlow,
    VPCosine,
    VPLinear,
    prediction_by_name,
    prior_noise,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.analytic import GaussianMixture
from diffbot.diffusion.guidance import (
    BatchedComposition,
    ClassifierFree,
    ClassifierGuidance,
    Composition,
    InpaintGuidance,
    energy_guidance,
)

SCHEDULE = VPLinear()


def solve(denoise: Denoise, dimension: int = 2, count: int = 2000) -> Tensor:
    generator = seeded(3)
    x = prior_noise(denoise.schedule, (count, dimension), generator, dtype=torch.float64)
    return solver_by_name("dpmpp_2m")(denoise, x, spacing("log_snr")(denoise.schedule, 80))


def log_mean_exp(known: GaussianMixture, direction: Tensor, x: Tensor, t: float) -> Tensor:
    """log E[exp(direction . x0) | x_t] from the posterior mixture, independent of `GaussianMixture.tilted`."""
    weight, mean = known.posterior(x, t, SCHEDULE)
    covariance = known.posterior_covariance(t, SCHEDULE)
    quadratic = torch.einsum("d,kde,e->k", direction, covariance, direction)
    return torch.logsumexp(weight.log() + mean @ direction + 0.5 * quadratic, dim=1)


@pytest.mark.parametrize("inference", [False, True])
def test_classifier_guidance_gives_the_tilted_density(inference: bool) -> None:
    known, direction = mixture(), torch.tensor([1.0, -0.7], dtype=torch.float64)
    guided = ClassifierGuidance(
        known.denoiser(SCHEDULE), lambda x, t: log_mean_exp(known, direction, x, float(t))
    )
    with torch.inference_mode(inference):
        samples = solve(guided)
    moments_match(samples.clone(), known.tilted(direction))


def test_energy_guidance_is_classifier_guidance_of_the_opposite_sign() -> None:
    known, direction = mixture(), torch.tensor([0.5, 0.5], dtype=torch.float64)
    guided = energy_guidance(
        known.denoiser(SCHEDULE), lambda x, t: -log_mean_exp(known, 1.5 * direction, x, float(t))
    )
    moments_match(solve(guided), known.tilted(1.5 * direction))


def test_classifier_of_the_components_gives_the_conditional() -> None:
    known = mixture()

    def log_prob(x: Tensor, t: float | Tensor) -> Tensor:
        return known.posterior(x, t, SCHEDULE)[0][:, :2].sum(1).clamp(min=1e-300).log()

    moments_match(solve(ClassifierGuidance(known.denoiser(SCHEDULE), log_prob)), known.subset([0, 1]))


def test_return_rises_with_scale_and_inner_steps() -> None:
    known = mixture()

    def gain(scale: float, inner: int, where: str) -> float:
        guided = ClassifierGuidance(
            known.denoiser(SCHEDULE),
            lambda x, t: x[:, 0],
            scale,
            inner,
            where=where,  # type: ignore[arg-type]
        )
        return float(solve(guided, count=200)[:, 0].mean())

    for where in ("state", "sample", "denoiser"):
        means = [gain(scale, 1, where) for scale in (0.0, 0.2, 0.5, 1.0)]
        assert means == sorted(means) and means[-1] > means[0] + 0.05, where
    assert gain(0.3, 3, "state") > gain(0.3, 1, "state")


def gaussian(mean: list[float], variance: list[float]) -> GaussianMixture:
    double = torch.float64
    return GaussianMixture(
        torch.ones(1, dtype=double),
        torch.tensor([mean], dtype=double),
        torch.diag(torch.tensor(variance, dtype=double))[None],
    )


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_classifier_free_guidance_gives_the_sharpened_density(scale: float) -> None:
    """For N(0, I) and N(m, I) the density q(x|y)^w q(x)^(1-w) is N(w m, I), exactly at every noise level of a VP model."""
    conditional, unconditional = gaussian([0.8, -0.4], [1, 1]), gaussian([0, 0], [1, 1])
    guided = ClassifierFree(conditional.denoiser(SCHEDULE), unconditional.denoiser(SCHEDULE), scale)
    moments_match(solve(guided), gaussian([0.8 * scale, -0.4 * scale], [1, 1]))


def test_composition_gives_the_product_density() -> None:
    """Concepts on different coordinates: q1(a) q(b), q(a) q2(b) over q(a) q(b) compose to q1(a) q2(b)."""
    base = gaussian([0, 0], [1, 1])
    first, second = gaussian([1.0, 0], [0.2, 1]), gaussian([0, -0.7], [1, 0.4])
    parts = [part.denoiser(SCHEDULE) for part in (first, second)]
    composed = Composition(base.denoiser(SCHEDULE), parts, (1.0, 1.0))
    moments_match(solve(composed), gaussian([1.0, -0.7], [0.2, 0.4]))


def test_negation_removes_a_concept() -> None:
    """q(x) (q1(x)/q(x))^-w with equal covariances moves the mean away from the concept by w m."""
    base, concept = gaussian([0, 0], [1, 1]), gaussian([1.0, 0], [1, 1])
    composed = Composition(base.denoiser(SCHEDULE), [concept.denoiser(SCHEDULE)], (-0.5,))
    moments_match(solve(composed), gaussian([-0.5, 0], [1, 1]))


def test_guidances_nest() -> None:
    base, concept = gaussian([0, 0], [1, 1]), gaussian([1.0, 0], [1, 1])
    free = ClassifierFree(concept.denoiser(SCHEDULE), base.denoiser(SCHEDULE), 2.0)
    aim = torch.tensor([0.0, 1.0], dtype=torch.float64)
    # q(x0) exp(aim . x0) with unit variance: log E[exp | x_t] = aim . alpha x + const, for any mean along the other axis
    guided = ClassifierGuidance(free, lambda x, t: SCHEDULE(torch.tensor(float(t))).alpha * (x @ aim))
    moments_match(solve(guided), gaussian([2.0, 1.0], [1, 1]))


def test_batched_composition_equals_separate_calls() -> None:
    weight = normal(3, 3)

    def network(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return torch.tanh(x @ weight + t[:, None, None] + condition[:, None])

    null, first, second = (normal(4, 3, seed=i) for i in (5, 6, 7))
    one = Denoiser(network, SCHEDULE, prediction_by_name("noise"))
    joined = BatchedComposition(one.given(torch.cat([null, first, second])), (1.5, -0.5))
    apart = Composition(one.given(null), [one.given(first), one.given(second)], (1.5, -0.5))
    x = normal(4, 2, 3)
    for t in (0.4, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)):
        torch.testing.assert_close(joined(x, t), apart(x, t))


@pytest.mark.parametrize("schedule", [RectifiedFlow(), VPCosine()], ids=lambda s: s.name)
def test_inpaint_guidance_tells_the_free_entries(schedule: RectifiedFlow | VPCosine) -> None:
    """With correlated coordinates, knowing the first moves the second to its conditional mean; zero weight changes nothing."""
    double = torch.float64
    covariance = torch.tensor([[[1.0, 0.9], [0.9, 1.0]]], dtype=double)
    known = GaussianMixture(torch.ones(1, dtype=double), torch.zeros(1, 2, dtype=double), covariance)
    denoise, values = known.denoiser(schedule), torch.tensor([1.5, 0.0], dtype=double)
    x = normal(500, 2)
    times = spacing("uniform")(schedule, 50)
    guided = InpaintGuidance(denoise, values, torch.tensor([1.0, 0.0], dtype=double))
    with torch.inference_mode():
        samples = solver_by_name("ddim")(guided, x, times)
    assert float(samples[:, 0].mean()) == pytest.approx(1.5, abs=0.15)
    assert float(samples[:, 1].mean()) == pytest.approx(0.9 * 1.5, abs=0.2)
    idle = InpaintGuidance(denoise, values, torch.zeros(2, dtype=double))
    torch.testing.assert_close(idle(x, 0.5), denoise(x, 0.5))


def test_what_does_not_fit_is_refused() -> None:
    denoise = mixture().denoiser(SCHEDULE)
    x = normal(3, 2)
    with pytest.raises(DiffusionError, match=r"needs log_prob.*there is none"):
        ClassifierGuidance(denoise, None)
    with pytest.raises(DiffusionError, match="one number per sample"):
        ClassifierGuidance(denoise, lambda x, t: x)(x, 0.5)
    with pytest.raises(DiffusionError, match="does not depend on x"):
        ClassifierGuidance(denoise, lambda x, t: torch.zeros(3))(x, 0.5)
    with pytest.raises(DiffusionError, match=r"different schedules.*VPLinear.*VPCosine"):
        ClassifierFree(mixture().denoiser(VPCosine()), denoise)
    with pytest.raises(DiffusionError, match="1 parts got 2 weights"):
        Composition(denoise, [denoise], (1.0, 2.0))
    with pytest.raises(DiffusionError, match="do not broadcast"):
        InpaintGuidance(denoise, torch.zeros(4, 1, 2), torch.ones(2))(x, 0.5)
