"""Classifier and energy guidance (Dhariwal & Nichol 2021; Janner et al. 2022; Lu et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError, unknown
from diffbot.diffusion.guidance.gradient import gradient
from diffbot.diffusion.schedule import Scalars, Schedule, coefficients

Where = Literal["state", "sample", "denoiser"]


@dataclass(frozen=True)
class ClassifierGuidance:
    """score <- score + scale grad log p(y | x_t), hence x0 <- x0 + scale sigma^2/alpha grad (Dhariwal & Nichol 2021, Eq. 14).

    log_prob(x, t) -> [B] with t as the solver gives it (a number) or [B]. With the exact log p(y | x_t) and scale 1 the samples
    are exactly those of p(x | y).

    where: what log_prob is a function of. "state": the noised x_t (a classifier or return model trained on noised samples).
    "sample": the clean estimate, its derivative by x_t taken as alpha/(alpha^2 + sigma^2) I, no pass back through the network.
    "denoiser": the clean estimate, differentiated through the denoiser (diffusion posterior sampling, Chung et al. 2023).

    inner_steps n: the gradient is taken n times, each at the point moved by the shifts before (n_guide_steps of Diffuser,
    Janner et al. 2022, Alg. 1 with its public code), each with the full scale. max_norm bounds each sample's shift of x0.
    """

    denoise: Denoise
    log_prob: Callable[[Tensor, float | Tensor], Tensor] | None
    scale: float = 1.0
    inner_steps: int = 1
    where: Where = "state"
    max_norm: float | None = None

    def __post_init__(self) -> None:
        if self.log_prob is None:
            raise DiffusionError(
                "classifier guidance needs log_prob(x, t) -> [B], a classifier or return model trained on noised samples; "
                "there is none. Train one, or use classifier-free guidance with a conditional denoiser."
            )
        if self.inner_steps < 1:
            raise DiffusionError(f"classifier guidance needs inner_steps >= 1, not {self.inner_steps}")
        if self.where not in ("state", "sample", "denoiser"):
            raise unknown("point of classifier guidance", self.where, ("state", "sample", "denoiser"))

    @property
    def schedule(self) -> Schedule:
        """The schedule of the guided denoiser."""
        return self.denoise.schedule

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        c = coefficients(self.schedule, t, x)
        if isinstance(c, Scalars) and c.alpha <= 0.0:
            return self.denoise(x, t)  # pure noise: x says nothing about y
        x0 = self.denoise(x, t)
        weight: Tensor | float = c.sigma**2 / c.alpha
        point: Tensor = x
        move: Tensor | float = c.alpha
        if self.where == "sample":
            # sigma^2/alpha * d/dx_t = sigma^2 / (alpha^2 + sigma^2) * d/dx0
            weight, point, move = c.sigma**2 / (c.alpha**2 + c.sigma**2), x0, 1.0
        shift = None
        for _ in range(self.inner_steps):
            here = point if shift is None else point + move * shift
            step = (self.scale * weight) * gradient(
                lambda value: self._value(value, t), here, "log_prob of the guidance"
            )
            shift = step if shift is None else shift + step
        assert shift is not None
        return x0 + (shift if self.max_norm is None else _bounded(shift, self.max_norm))

    def _value(self, value: Tensor, t: float | Tensor) -> Tensor:
        assert self.log_prob is not None
        return self.log_prob(self.denoise(value, t) if self.where == "denoiser" else value, t)


def energy_guidance(
    denoise: Denoise,
    energy: Callable[[Tensor, float | Tensor], Tensor],
    scale: float = 1.0,
    *,
    where: Where = "state",
    inner_steps: int = 1,
    max_norm: float | None = None,
) -> ClassifierGuidance:
    """Sample from q(x0) exp(-scale E(x0)): score <- score - scale grad E_t (Lu et al. 2023, "Contrastive Energy Prediction", Eq. 7).

    Exact for the intermediate energy E_t(x_t) = -log E[exp(-E(x0)) | x_t] at scale 1 (`where` "state"). For Q-guided sampling pass
    energy = -Q with where "sample".
    """

    def log_prob(x: Tensor, t: float | Tensor) -> Tensor:
        return -energy(x, t)

    return ClassifierGuidance(denoise, log_prob, scale, inner_steps, where, max_norm)


def _bounded(shift: Tensor, bound: float) -> Tensor:
    norm = shift.flatten(1).norm(dim=1).clamp(min=1e-12)
    return shift * (bound / norm).clamp(max=1.0).reshape(-1, *(1,) * (shift.dim() - 1))
