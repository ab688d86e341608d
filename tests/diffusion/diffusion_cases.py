"""What several tests of the diffusion core share: all schedules, mixtures with known densities, and distances."""

from __future__ import annotations

import torch
from torch import Tensor

from diffbot.diffusion import SCHEDULES, RectifiedFlow, Schedule, VPCosine, VPLinear, schedule_by_name
from diffbot.diffusion.analytic import GaussianMixture, random_mixture

ALL_SCHEDULES: list[Schedule] = [schedule_by_name(name) for name in SCHEDULES]
SMOOTH: list[Schedule] = [VPLinear(), VPCosine(), RectifiedFlow()]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(dimension: int = 2, components: int = 3) -> GaussianMixture:
    return random_mixture(components, dimension, seeded(0))


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def moments_match(samples: Tensor, target: GaussianMixture, bound: float = 5.0) -> None:
    """Means and second moments within `bound` standard errors of those of exact samples; the likelihood too."""
    exact = target.draw(50_000, seeded(11))
    for function in (
        lambda x: x,
        lambda x: x[:, :, None] * x[:, None, :],
        lambda x: target.log_prob(x)[:, None],
    ):
        mine, theirs = function(samples).flatten(1), function(exact).flatten(1)
        error = (theirs.var(0) * (1 / len(mine) + 1 / len(theirs))).sqrt()
        worst = ((mine.mean(0) - theirs.mean(0)).abs() / error).max()
        assert float(worst) < bound, f"off by {float(worst):.1f} standard errors"
