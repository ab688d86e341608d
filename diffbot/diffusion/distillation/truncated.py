"""Truncated diffusion (TDPM, Zheng et al. 2023): stop the forward process at t = cut and learn the implicit prior there.

Training has two parts: the usual diffusion loss with times below the cut, and a generator z -> x_cut matched to the noised
data. Sampling draws x_cut from the generator and denoises the few steps that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Schedule, add_noise, noise_like
from diffbot.diffusion.spacings import Spacing, uniform


def truncated_times(
    schedule: Schedule, steps: int, cut: float, spacing: Callable[..., Tensor] | Spacing = uniform
) -> Tensor:
    """Times [steps + 1] from the cut to 0; spacing takes `start` (all in `spacings` but "discrete" do)."""
    if not 0.0 < cut <= 1.0:
        raise DiffusionError(f"the cut of a truncated diffusion lies in (0, 1], not {cut}")
    times: Tensor = spacing(schedule, steps, start=cut)  # type: ignore[call-arg]
    return times


def truncated_start(x0: Tensor, cut: float, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Real samples of q(x_cut): what the implicit prior has to match."""
    return add_noise(x0, noise_like(x0, generator, "truncated_start"), cut, schedule)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of the implicit prior, from the discriminator's logits on its samples. Scalar."""
    return functional.softplus(-fake_logits).mean()


def discriminator_loss(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, *, penalty: float = 0.0
) -> Tensor:
    """Logistic loss on real and generated x_cut, with the R1 gradient penalty (Mescheder et al. 2018) at `penalty` > 0. Scalar."""
    real = real.detach().requires_grad_(penalty > 0.0)
    logits = discriminator(real)
    loss = functional.softplus(-logits).mean() + functional.softplus(discriminator(fake.detach())).mean()
    if penalty > 0.0:
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        loss = loss + 0.5 * penalty * slope.flatten(1).square().sum(1).mean()
    return loss


def energy_distance(generated: Tensor, real: Tensor) -> Tensor:
    """2 E|g - r| - E|g - g'| - E|r - r'| between two batches [N, ...], [M, ...]: unbiased, >= 0 in expectation. Scalar.

    A loss of the implicit prior that needs no discriminator; suited to low dimensions, where it is a proper scoring rule.
    """
    g, r = generated.flatten(1), real.flatten(1)
    if g.shape[0] < 2 or r.shape[0] < 2 or g.shape[1] != r.shape[1]:
        raise DiffusionError(
            f"energy_distance needs two batches of at least 2 samples of one size, not {list(generated.shape)} "
            f"and {list(real.shape)}"
        )
    cross = torch.cdist(g, r).mean()
    return 2.0 * cross - torch.pdist(g).mean() - torch.pdist(r).mean()


def truncated_sample(
    denoise: Denoise,
    prior: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    times: Tensor,
    solver: Callable[..., Tensor],
    *,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Tensor:
    """x_cut = prior(z), z ~ N(0, I) of `shape`; then the solver from times[0] = cut."""
    z = noise_like(torch.empty(shape, device=device or generator.device, dtype=dtype), generator)
    start = prior(z)
    if start.shape != z.shape:
        raise DiffusionError(f"the implicit prior made {list(start.shape)} of noise {list(z.shape)}")
    return solver(denoise, start, times, generator=generator, **options)
