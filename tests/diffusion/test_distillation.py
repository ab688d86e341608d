"""Distillation: exact consistency functions and straight flows are minima; the losses move a model there."""

from __future__ import annotations

import pytest
import torch
from diffusion_cases import normal, seeded
from torch import Tensor

from diffbot.diffusion import (
    EDM,
    DenoiseFunction,
    DiffusionError,
    RectifiedFlow,
    VPLinear,
    add_noise,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.analytic import GaussianMixture
from diffbot.diffusion.distillation import (
    consistency_distillation_loss,
    consistency_grid,
    consistency_training_loss,
    discriminator_loss,
    energy_distance,
    generator_loss,
    grid_size,
    pseudo_huber,
    reflow_loss,
    reflow_pairs,
    straightness,
    truncated_sample,
    truncated_start,
    truncated_times,
)
from diffbot.diffusion.schedule import coefficients

STD = 0.7


def gaussian() -> GaussianMixture:
    """N(0, 0.49 I) in 2-D: its ODE and consistency function have closed forms."""
    double = torch.float64
    return GaussianMixture(
        torch.ones(1, dtype=double),
        torch.zeros(1, 2, dtype=double),
        STD**2 * torch.eye(2, dtype=double)[None],
    )


def true_consistency(schedule: EDM | VPLinear, gain: float = 1.0) -> DenoiseFunction:
    """f(x, t) = x std / sqrt(alpha^2 std^2 + sigma^2): the end of the trajectory through x."""

    def function(x: Tensor, t: float | Tensor) -> Tensor:
        c = coefficients(schedule, t, x)
        scale = STD / (c.alpha**2 * STD**2 + c.sigma**2) ** 0.5
        return x * (scale * gain if gain == 1.0 else scale**gain)

    return DenoiseFunction(function, schedule)


@pytest.mark.parametrize("schedule", [EDM(), VPLinear()], ids=lambda s: s.name)
def test_the_true_consistency_function_has_no_distillation_loss(schedule: EDM | VPLinear) -> None:
    data, teacher, right = (
        gaussian().draw(4000, seeded(1)),
        gaussian().denoiser(schedule),
        true_consistency(schedule),
    )
    grid = consistency_grid(schedule, 100)
    losses = [
        float(consistency_distillation_loss(f, f, teacher, data, grid, generator=seeded(2)))
        for f in (right, true_consistency(schedule, 0.8), true_consistency(schedule, 1.2))
    ]
    assert losses[0] < 0.1 * min(losses[1:])
    first_order = consistency_distillation_loss(
        right, right, teacher, data, grid, generator=seeded(2), heun=False
    )
    assert losses[0] < float(first_order)


def test_heun_teacher_step_is_the_solvers() -> None:
    """The aim of the loss is the target at the point where `edm_heun` arrives."""
    schedule, data = EDM(), gaussian().draw(64, seeded(1))
    teacher, grid = gaussian().denoiser(schedule), torch.tensor([0.6, 0.5], dtype=torch.float64)
    seen: list[Tensor] = []

    def target(x: Tensor, t: float | Tensor) -> Tensor:
        seen.append(x)
        return x

    generator = seeded(2)
    consistency_distillation_loss(
        true_consistency(schedule),
        DenoiseFunction(target, schedule),
        teacher,
        data,
        grid,
        generator=generator,
    )
    replay = seeded(2)
    torch.multinomial(torch.ones(1, dtype=torch.float64), 64, replacement=True, generator=replay)
    noise = torch.randn(64, 2, generator=replay).double()
    expected = solver_by_name("edm_heun")(teacher, add_noise(data, noise, 0.6, schedule), grid)
    torch.testing.assert_close(seen[0], expected)


def test_consistency_training_learns_the_true_gain() -> None:
    """One parameter: f = x (std' ...)^p; the loss without a teacher is least near the truth."""
    schedule, data = EDM(), gaussian().draw(20_000, seeded(1))
    grid = consistency_grid(schedule, 150)

    def slope(gain: float) -> float:
        p = torch.tensor(gain, dtype=torch.float64, requires_grad=True)

        def function(x: Tensor, t: float | Tensor) -> Tensor:
            c = coefficients(schedule, t, x)
            return x * (STD / (STD**2 + c.sigma**2) ** 0.5) ** p

        f = DenoiseFunction(function, schedule)
        loss = consistency_training_loss(f, f, data, grid, generator=seeded(2), intervals="uniform")
        (gradient,) = torch.autograd.grad(loss, p)
        return float(gradient)

    assert slope(0.7) < 0.0 < slope(1.3)


def test_grid_and_distance() -> None:
    assert [grid_size(k, 800) for k in (0, 160, 320, 480, 640, 799)] == [10, 20, 40, 80, 160, 160]
    a, b = normal(3, 4, 2), normal(3, 4, 2, seed=2)
    c = 0.00054 * 8**0.5
    expected = ((a - b).flatten(1).square().sum(1) + c**2).sqrt() - c
    torch.testing.assert_close(pseudo_huber(a, b).flatten(1).sum(1), expected)
    with pytest.raises(DiffusionError, match="different schedules"):
        consistency_distillation_loss(
            true_consistency(EDM()),
            true_consistency(EDM()),
            gaussian().denoiser(VPLinear()),
            a.flatten(1)[:, :2],
            consistency_grid(EDM(), 5),
            generator=seeded(0),
        )
    with pytest.raises(DiffusionError, match="ends above 0"):
        f = true_consistency(EDM())
        consistency_training_loss(f, f, a, torch.tensor([1.0, 0.0]), generator=seeded(0))


def test_reflow_of_a_gaussian_is_straight() -> None:
    """The ODE couples noise z with std z; on these pairs the velocity (1 - std) z is constant along each path."""
    flow, teacher = RectifiedFlow(), gaussian().denoiser(RectifiedFlow())
    noise, x0 = reflow_pairs(
        teacher,
        (500, 2),
        spacing("uniform")(flow, 200),
        solver_by_name("heun"),
        generator=seeded(1),
        dtype=torch.float64,
    )
    torch.testing.assert_close(x0, STD * noise, rtol=0.01, atol=0.01)

    def straight(x: Tensor, t: Tensor, condition: object) -> Tensor:
        # x_t = ((1 - t) std + t) z and u = (1 - std) z
        return x * ((1 - STD) / ((1 - t) * STD + t))[:, None]

    def marginal(x: Tensor, t: Tensor, condition: object) -> Tensor:
        return (x - teacher(x, t)) / t[:, None]

    after = float(reflow_loss(straight, noise, x0, generator=seeded(2)))
    assert after < 1e-3 < 0.1 * float(reflow_loss(marginal, noise, x0, generator=seeded(2)))

    def straight_sample(x: Tensor, t: float | Tensor) -> Tensor:
        return x - float(t) * straight(x, torch.full((len(x),), float(t), dtype=x.dtype), None)

    bent, even = straightness(teacher, noise), straightness(DenoiseFunction(straight_sample, flow), noise)
    assert float(even.max()) < 1e-12 < 1e-2 < float(bent.mean())


def test_truncated_sampling_with_the_exact_prior_keeps_the_density() -> None:
    schedule, known, cut = VPLinear(), gaussian(), 0.3
    c = coefficients(schedule, cut, torch.zeros(1))
    spread = float((c.alpha**2 * STD**2 + c.sigma**2) ** 0.5)
    samples = truncated_sample(
        known.denoiser(schedule),
        lambda z: spread * z,
        (4000, 2),
        truncated_times(schedule, 10, cut),
        solver_by_name("dpmpp_2m"),
        generator=seeded(1),
        dtype=torch.float64,
    )
    assert float(samples.std()) == pytest.approx(STD, rel=0.03)
    real = truncated_start(known.draw(4000, seeded(2)), cut, schedule, seeded(3))
    assert float(real.std()) == pytest.approx(spread, rel=0.03)
    with pytest.raises(DiffusionError, match="cut"):
        truncated_times(schedule, 5, 1.5)


def test_implicit_prior_losses_prefer_the_right_density() -> None:
    real = normal(1500, 2)
    right, wrong = normal(1500, 2, seed=5), 1.5 * normal(1500, 2, seed=6)
    assert abs(float(energy_distance(right, real))) < 0.01 < float(energy_distance(wrong, real))
    assert float(generator_loss(torch.full((8,), 3.0))) < float(generator_loss(torch.full((8,), -3.0)))

    def radius(x: Tensor) -> Tensor:
        return 2.5 - x.square().sum(1)

    good = discriminator_loss(radius, real, 3.0 * real)
    assert float(good) < float(discriminator_loss(radius, 3.0 * real, real))
    penalised = discriminator_loss(radius, real, wrong, penalty=0.5)
    expected = 0.25 * (2 * real).square().sum(1).mean()
    torch.testing.assert_close(penalised - discriminator_loss(radius, real, wrong), expected)
