"""Inpainting by guidance through the denoiser, with soft weights (real-time chunking)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Scalars, Schedule, coefficients


@dataclass(frozen=True)
class InpaintGuidance:
    """x0 <- x0 + k(t) (d x0/d x)^T W (known - x0) (Song et al. 2023, "Pseudoinverse-Guided Diffusion Models").

    Unlike the constraint `Inpaint` the free entries learn of the known ones through the network's Jacobian, so a chunk
    continues a committed prefix smoothly. weights: W in [0, 1], broadcastable to x, 1 for frozen steps and decaying after.
    k = sigma^2/(alpha r^2) with r^2 = sigma^2/(alpha^2 + sigma^2), at most max_weight sigma: on rectified flow this is
    Black et al. 2025 ("Real-Time Execution of Action Chunking Flow Policies", Eq. 2-4, beta = max_weight).
    Combine with `Inpaint` on the entries of weight 1 to have them exact.
    """

    denoise: Denoise
    known: Tensor
    weights: Tensor
    max_weight: float = 5.0

    def __post_init__(self) -> None:
        if not bool(((self.weights >= 0) & (self.weights <= 1)).all()):
            raise DiffusionError("inpainting weights lie in [0, 1]; there are values outside")
        if not self.max_weight > 0.0:
            raise DiffusionError(f"max_weight of inpainting guidance is positive, not {self.max_weight}")

    @property
    def schedule(self) -> Schedule:
        """The schedule of the guided denoiser."""
        return self.denoise.schedule

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            x0 = self.denoise(point, t)
            error = (self.known.clone().to(x0) - x0.detach()) * self.weights.clone().to(x0)
            if error.shape != x.shape:
                raise DiffusionError(
                    f"known values {list(self.known.shape)} and weights {list(self.weights.shape)} do not broadcast to x "
                    f"{list(x.shape)}"
                )
            (pull,) = torch.autograd.grad(x0, point, error)
        c = coefficients(self.schedule, t, x)
        # sigma^2 / (alpha r^2) = (alpha^2 + sigma^2) / alpha
        if isinstance(c, Scalars):
            steep = (c.alpha**2 + c.sigma**2) / c.alpha if c.alpha > 0.0 else math.inf
            return torch.add(x0.detach(), pull, alpha=min(steep, self.max_weight * c.sigma))
        return (
            x0.detach() + torch.minimum((c.alpha**2 + c.sigma**2) / c.alpha, self.max_weight * c.sigma) * pull
        )
