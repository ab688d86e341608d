"""Training losses: weightings, masks, times; and that minimising them learns the known density."""

from __future__ import annotations

import pytest
import torch
from diffusion_cases import mixture, moments_match, normal, seeded
from torch import Tensor, nn

from diffbot.diffusion import (
    EDM,
    PREDICTIONS,
    Denoiser,
    DiffusionError,
    RectifiedFlow,
    VPCosine,
    VPLinear,
    VPSquaredCosine,
    add_noise,
    diffusion_loss,
    diffusion_losses,
    masked_mean,
    prediction_by_name,
    prior_noise,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.losses import TIME_DISTRIBUTIONS, draw_times


def network(x: Tensor, t: Tensor, condition: object) -> Tensor:
    return torch.tanh(x + t.reshape(-1, *(1,) * (x.dim() - 1)))


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize(
    ("weighting", "weight"),
    [
        ("sample", lambda snr: torch.ones_like(snr)),
        ("snr", lambda snr: snr),
        ("min_snr", lambda snr: snr.clamp(max=5.0)),
        ("edm", lambda snr: snr + 4.0),
    ],
)
def test_weightings_are_those_of_the_clean_sample(name: str, weighting: str, weight: object) -> None:
    """Whatever the network outputs, the loss is w(SNR) |x0_hat - x0|^2; EDM's (s^2 + sd^2)/(s sd)^2 is SNR + 1/sd^2."""
    for schedule in (VPCosine(), RectifiedFlow(), EDM()):
        prediction = prediction_by_name(name)
        x0, noise, t = (
            normal(5, 4, 2),
            normal(5, 4, 2, seed=2),
            torch.linspace(0.3, 0.9, 5, dtype=torch.float64),
        )
        losses = diffusion_losses(
            network, schedule, prediction, x0, weighting=weighting, generator=seeded(0), times=t, noise=noise
        )
        x = add_noise(x0, noise, t, schedule)
        error = Denoiser(network, schedule, prediction)(x, t) - x0
        snr = schedule(t).log_snr.exp()
        expected = weight(snr)[:, None, None] * error.square()  # type: ignore[operator]
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-9)


def test_simple_and_snr_agree_for_noise_prediction() -> None:
    options = {"times": torch.full((4,), 0.4, dtype=torch.float64), "noise": normal(4, 3, seed=2)}
    losses = [
        diffusion_losses(
            network,
            VPLinear(),
            prediction_by_name("noise"),
            normal(4, 3),
            weighting=w,
            generator=seeded(0),
            **options,
        )
        for w in ("simple", "snr")
    ]
    torch.testing.assert_close(*losses)


def test_masked_entries_do_not_count() -> None:
    x0, mask = normal(4, 6, 2), torch.zeros(4, 6, dtype=torch.bool)
    mask[:, :3] = True
    changed = x0.clone()
    changed[:, 3:] = 99.0

    def loss(data: Tensor) -> Tensor:
        return diffusion_loss(
            network, VPLinear(), prediction_by_name("noise"), data, mask=mask, generator=seeded(3)
        )

    torch.testing.assert_close(loss(x0), loss(changed))
    assert float(masked_mean(torch.full((4, 6, 2), 2.0), mask)) == 2.0
    with pytest.raises(DiffusionError, match=r"mask of shape \[3\] does not broadcast"):
        masked_mean(torch.zeros(4, 6, 2), torch.ones(3))


@pytest.mark.parametrize("distribution", TIME_DISTRIBUTIONS)
def test_times_are_in_range_and_on_the_grid(distribution: str) -> None:
    for schedule in (VPLinear(), EDM(), RectifiedFlow(), VPSquaredCosine(20)):
        t = draw_times(schedule, torch.zeros(2000, 3), seeded(1), distribution)
        assert float(t.min()) > 0.0 and float(t.max()) <= 1.0
        if schedule.grid and distribution == "uniform":
            torch.testing.assert_close(t * 20, (t * 20).round(), rtol=0, atol=1e-5)
            assert len((t * 20).round().unique()) == 20


def test_unknown_weighting() -> None:
    with pytest.raises(DiffusionError, match="Did you mean 'min_snr'"):
        diffusion_loss(
            network,
            VPLinear(),
            prediction_by_name("noise"),
            normal(2, 3),
            weighting="minsnr",
            generator=seeded(0),
        )


class Small(nn.Module):
    """A residual MLP of (x, t)."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Linear(2 + 9, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2)
            )

    def forward(self, x: Tensor, t: Tensor, condition: object) -> Tensor:
        waves = t[:, None] * torch.tensor([1.0, 3.0, 9.0, 27.0]) * 1.57
        return self.layers(torch.cat([x, t[:, None], waves.sin(), waves.cos()], dim=1))


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["noise", "sample", "v", "velocity", "edm"])
def test_a_trained_network_samples_the_mixture(prediction: str) -> None:
    known, schedule, form = mixture(), VPCosine(), prediction_by_name(prediction)
    net, generator = Small(), seeded(1)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for step in range(8000):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / 8000)
        data = known.draw(512, generator).float()
        loss = diffusion_loss(net, schedule, form, data, weighting="min_snr", generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = prior_noise(schedule, (2000, 2), generator)
    with torch.no_grad():
        samples = solver_by_name("dpmpp_2m")(
            Denoiser(net, schedule, form), x, spacing("log_snr")(schedule, 30)
        )
    moments_match(samples.double(), known, bound=8.0)
