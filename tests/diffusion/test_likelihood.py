"""Log-likelihood of the probability-flow ODE against the known density."""

from __future__ import annotations

import pytest
import torch
from diffusion_cases import mixture, seeded

from diffbot.diffusion import EDM, DiffusionError, RectifiedFlow, Schedule, VPCosine, VPLinear
from diffbot.diffusion.likelihood import log_likelihood


@pytest.mark.parametrize("dimension", [2, 16])
@pytest.mark.parametrize("schedule", [VPLinear(), VPCosine(), EDM(), RectifiedFlow()], ids=lambda s: s.name)
def test_within_a_twentieth_of_a_nat(schedule: Schedule, dimension: int) -> None:
    known = mixture(dimension)
    points = known.draw(20, seeded(2))
    with torch.inference_mode():
        value = log_likelihood(known.denoiser(schedule), points)
    assert float((value - known.log_prob(points)).abs().max()) < 0.05


def test_hutchinson_is_unbiased() -> None:
    known = mixture(4)
    points = known.draw(1, seeded(2)).expand(256, 4)
    value = log_likelihood(
        known.denoiser(VPLinear()), points, divergence="hutchinson", probes=2, generator=seeded(3)
    )
    error = value - known.log_prob(points)
    assert float(error.std()) > 1e-3
    assert abs(float(error.mean())) < 0.02 + 4 * float(error.std()) / 16


def test_bad_requests() -> None:
    denoise = mixture().denoiser(VPLinear())
    with pytest.raises(DiffusionError, match="generator"):
        log_likelihood(denoise, torch.zeros(2, 2), divergence="hutchinson")
    with pytest.raises(DiffusionError, match="Valid: exact, hutchinson"):
        log_likelihood(denoise, torch.zeros(2, 2), divergence="exac")  # type: ignore[arg-type]
    with pytest.raises(DiffusionError, match="t_min"):
        log_likelihood(denoise, torch.zeros(2, 2), t_min=1.0)
