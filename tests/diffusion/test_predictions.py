"""Prediction forms: exact conversions both ways, and the denoiser that reads them."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusion_cases import ALL_SCHEDULES, mixture, normal
from hypothesis import given, settings
from hypothesis import strategies as st

from diffbot.diffusion import (
    EDM,
    PREDICTIONS,
    Denoiser,
    DiffusionError,
    RectifiedFlow,
    Schedule,
    VPCosine,
    VPLinear,
    add_noise,
    convert,
    convert_output,
    noise_of,
    prediction_by_name,
    score_of,
    velocity_of,
)
from diffbot.diffusion.schedule import scalars

by_schedule = pytest.mark.parametrize("schedule", ALL_SCHEDULES, ids=lambda s: s.name)
by_prediction = pytest.mark.parametrize("name", PREDICTIONS)


@by_schedule
@by_prediction
@given(t=st.floats(0.01, 0.98), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_target_gives_back_sample_and_noise(schedule: Schedule, name: str, t: float, seed: int) -> None:
    prediction = prediction_by_name(name)
    x0, noise = normal(3, 4, 2, seed=seed), normal(3, 4, 2, seed=seed + 1)
    for time in (t, torch.full((3,), t, dtype=torch.float64)):
        x = add_noise(x0, noise, time, schedule)
        output = prediction.target(x0, noise, time, schedule)
        # Forms that divide by a small coefficient cannot return more digits than x holds.
        scale = max(1.0, 1.0 / scalars(schedule, t).alpha, 1.0 / scalars(schedule, t).sigma)
        exact = {"rtol": 1e-9, "atol": 1e-11 * scale**2}
        torch.testing.assert_close(prediction.to_sample(output, x, time, schedule), x0, **exact)
        torch.testing.assert_close(prediction.to_noise(output, x, time, schedule), noise, **exact)
        size = float(output.abs().max()) + 1.0
        torch.testing.assert_close(
            prediction.from_sample(x0, x, time, schedule) / size, output / size, **exact
        )


@by_schedule
@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(PREDICTIONS, 2)))
def test_conversion_round_trips(schedule: Schedule, source: str, target: str) -> None:
    first, second = prediction_by_name(source), prediction_by_name(target)
    x, output, t = normal(4, 3), normal(4, 3, seed=2), torch.tensor([0.2, 0.4, 0.6, 0.9], dtype=torch.float64)
    there = convert_output(output, x, t, schedule, first, second)
    torch.testing.assert_close(
        convert_output(there, x, t, schedule, second, first), output, rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("schedule", [VPLinear(), VPCosine(), EDM()], ids=lambda s: s.name)
def test_score_is_that_of_the_known_density(schedule: Schedule) -> None:
    known = mixture()
    for t in (0.3, 0.5, 0.9):
        x = normal(16, 2).requires_grad_()
        (score,) = torch.autograd.grad(known.log_density(x, t, schedule).sum(), x)
        torch.testing.assert_close(score_of(known.denoiser(schedule)(x, t), x, t, schedule), score)


def test_velocity_is_the_slope_of_the_path() -> None:
    x0, noise, t, step = normal(5, 2), normal(5, 2, seed=2), 0.37, 1e-6
    for schedule in (VPLinear(), RectifiedFlow(), EDM()):
        x = add_noise(x0, noise, t, schedule)
        slope = (add_noise(x0, noise, t + step, schedule) - add_noise(x0, noise, t - step, schedule)) / (
            2 * step
        )
        torch.testing.assert_close(velocity_of(x0, x, t, schedule), slope, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(noise_of(x0, x, t, schedule), noise)


def test_edm_is_the_published_preconditioning() -> None:
    """Karras et al. 2022, Table 1."""
    sd, schedule, x, output = 0.5, EDM(), normal(6, 3), normal(6, 3, seed=2)
    t = 0.6
    sigma = scalars(schedule, t).sigma
    prediction = prediction_by_name("edm", sigma_data=sd)
    expected = sd**2 / (sigma**2 + sd**2) * x + sigma * sd / (sigma**2 + sd**2) ** 0.5 * output
    torch.testing.assert_close(prediction.to_sample(output, x, t, schedule), expected)
    torch.testing.assert_close(prediction.scale_input(x, t, schedule), x / (sigma**2 + sd**2) ** 0.5)
    # Identity at t = 0: the boundary condition of consistency models, whatever the network says.
    for any_schedule in ALL_SCHEDULES:
        assert torch.equal(prediction.to_sample(output, x, 0.0, any_schedule), x)


def test_denoiser_gives_the_network_its_time_and_condition() -> None:
    seen = {}

    def network(x: torch.Tensor, t: torch.Tensor, condition: object) -> torch.Tensor:
        seen.update(t=t, condition=condition)
        return torch.zeros_like(x)

    denoise = Denoiser(network, VPLinear(), prediction_by_name("sample"), condition="grasp")
    x = normal(3, 4, 2).float()
    denoise(x, 0.25)
    assert (
        seen["t"].tolist() == [0.25] * 3 and seen["t"].dtype == torch.float32 and seen["condition"] == "grasp"
    )
    denoise.given("place")(x, torch.tensor([0.1, 0.2, 0.3]))
    assert seen["condition"] == "place" and seen["t"].shape == (3,)


@by_prediction
def test_scalar_and_batched_times_agree(name: str) -> None:
    for schedule in ALL_SCHEDULES:
        denoise = Denoiser(lambda x, t, c: torch.sin(x), schedule, prediction_by_name(name))
        x = normal(4, 3)
        torch.testing.assert_close(denoise(x, 0.3), denoise(x, torch.full((4,), 0.3, dtype=torch.float64)))


def test_converted_denoiser_is_that_of_the_other_schedule() -> None:
    known = mixture()
    for source in (VPLinear(), EDM(), RectifiedFlow()):
        for target in (VPCosine(), EDM(), RectifiedFlow()):
            converted, exact = convert(known.denoiser(source), target), known.denoiser(target)
            x = normal(8, 2) * (1.0 + scalars(target, 0.5).sigma)
            for t in (0.5, torch.full((8,), 0.5, dtype=torch.float64)):
                torch.testing.assert_close(converted(x, t), exact(x, t), rtol=1e-6, atol=1e-8)


def test_what_is_undefined_is_refused() -> None:
    x = normal(2, 3)
    with pytest.raises(
        DiffusionError, match=r"'noise' does not determine the sample at t=1.0 of schedule 'rectified_flow'"
    ):
        prediction_by_name("noise").to_sample(x, x, 1.0, RectifiedFlow())
    with pytest.raises(DiffusionError, match="undefined at sigma = 0"):
        prediction_by_name("score").to_sample(x, x, 0.0, VPLinear())
    with pytest.raises(DiffusionError, match="Did you mean 'velocity'"):
        prediction_by_name("velocty")
    with pytest.raises(DiffusionError, match=r"times of shape \[5\] do not fit x of shape \[2, 3\]"):
        prediction_by_name("v").to_sample(x, x, torch.full((5,), 0.5), VPLinear())
    with pytest.raises(DiffusionError, match="has not the shape of x"):
        Denoiser(lambda x, t, c: x[:, :1], VPLinear(), prediction_by_name("noise"))(x, 0.5)
