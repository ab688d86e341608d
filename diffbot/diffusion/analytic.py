"""Gaussian mixtures with every diffusion quantity in closed form: the ground truth of tests and benchmarks.

Under x_t = alpha x0 + sigma eps a mixture of N(m_k, S_k) stays one, of N(alpha m_k, alpha^2 S_k + sigma^2 I), so score,
posterior mean and density are known at every t without a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffbot.diffusion.denoiser import DenoiseFunction
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Schedule, coefficients


class GaussianMixture:
    """weights [K] (positive, normalised here), means [K, D], covariances [K, D, D] (symmetric, positive definite)."""

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        count, size = means.shape
        if weights.shape != (count,) or covariances.shape != (count, size, size):
            raise DiffusionError(
                f"a mixture needs weights [K], means [K, D], covariances [K, D, D], not {list(weights.shape)}, "
                f"{list(means.shape)}, {list(covariances.shape)}"
            )
        self.weights, self.means, self.covariances = weights / weights.sum(), means, covariances
        self._values, self._axes = torch.linalg.eigh(covariances)
        if not bool((self._values > 0).all()) or not bool((weights > 0).all()):
            raise DiffusionError("a mixture needs positive weights and positive definite covariances")

    @property
    def dimension(self) -> int:
        """D."""
        return self.means.shape[1]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Exact samples [count, D]."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        normal = torch.randn(count, self.dimension, generator=generator, dtype=self.means.dtype)
        scaled = normal * self._values[component].sqrt()
        return self.means[component] + (self._axes[component] @ scaled[..., None])[..., 0]

    def _parts(
        self, x: Tensor, t: float | Tensor, schedule: Schedule
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        """log of weight x density [B, K], offset in each eigenbasis [B, K, D], its variance [B|1, K, D], and alpha."""
        if x.dim() != 2 or x.shape[1] != self.dimension:
            raise DiffusionError(f"this mixture has {self.dimension} dimensions; x has shape {list(x.shape)}")
        c = coefficients(schedule, t, x[:, :, None])
        alpha, sigma = c.alpha, c.sigma
        variance = alpha**2 * self._values[None] + sigma**2
        offset = torch.einsum("bkd,kde->bke", x[:, None] - alpha * self.means[None], self._axes)
        quadratic = (offset**2 / variance + variance.log() + math.log(2.0 * math.pi)).sum(-1)
        return self.weights.log() - 0.5 * quadratic, offset, variance, alpha

    def log_density(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """log q_t(x) in nats, [B]."""
        return torch.logsumexp(self._parts(x, t, schedule)[0], dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of the data, [B]."""
        offset = torch.einsum("bkd,kde->bke", x[:, None] - self.means[None], self._axes)
        quadratic = (offset**2 / self._values + self._values.log() + math.log(2.0 * math.pi)).sum(-1)
        return torch.logsumexp(self.weights.log() - 0.5 * quadratic, dim=1)

    def posterior(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """p(component | x_t) [B, K] and E[x0 | x_t, component] [B, K, D]."""
        log_joint, offset, variance, alpha = self._parts(x, t, schedule)
        moved = torch.einsum("bkd,ked->bke", alpha * self._values[None] / variance * offset, self._axes)
        return torch.softmax(log_joint, dim=1), self.means[None] + moved

    def posterior_covariance(self, t: float, schedule: Schedule) -> Tensor:
        """Cov[x0 | x_t, component] [K, D, D]: it does not depend on x_t."""
        c = schedule(torch.tensor(t, dtype=self.means.dtype))
        shrunk = self._values * c.sigma**2 / (c.alpha**2 * self._values + c.sigma**2)
        return (self._axes * shrunk[:, None]) @ self._axes.mT

    def denoiser(self, schedule: Schedule) -> DenoiseFunction:
        """The exact E[x0 | x_t] as a denoise function for x [B, D]."""

        def function(x: Tensor, t: float | Tensor) -> Tensor:
            weight, mean = self.posterior(x, t, schedule)
            return torch.einsum("bk,bkd->bd", weight, mean)

        return DenoiseFunction(function, schedule)

    def tilted(self, direction: Tensor) -> GaussianMixture:
        """The density proportional to q(x) exp(direction . x), again a mixture; direction [D]."""
        shift = self.covariances @ direction
        gain = (self.means + 0.5 * shift) @ direction
        return GaussianMixture(
            self.weights * torch.exp(gain - gain.max()), self.means + shift, self.covariances
        )

    def subset(self, components: list[int]) -> GaussianMixture:
        """The mixture given that x comes from one of these components."""
        return GaussianMixture(self.weights[components], self.means[components], self.covariances[components])

    def product(self, other: GaussianMixture) -> GaussianMixture:
        """The normalised product of two densities, a mixture of K1 K2 components."""
        weights, means, covariances = [], [], []
        for i in range(len(self.weights)):
            for j in range(len(other.weights)):
                total = self.covariances[i] + other.covariances[j]
                gap = other.means[j] - self.means[i]
                gain = self.covariances[i] @ torch.linalg.inv(total)
                means.append(self.means[i] + gain @ gap)
                covariances.append(_symmetric(self.covariances[i] - gain @ self.covariances[i]))
                overlap = -0.5 * (gap @ torch.linalg.solve(total, gap) + torch.logdet(total))
                weights.append(self.weights[i].log() + other.weights[j].log() + overlap)
        logs = torch.stack(weights)
        return GaussianMixture(torch.exp(logs - logs.max()), torch.stack(means), torch.stack(covariances))


def random_mixture(
    components: int, dimension: int, generator: torch.Generator, *, spread: float = 1.0, scale: float = 0.3
) -> GaussianMixture:
    """A mixture of mean 0, component means N(0, spread^2), random full covariances of deviation about `scale`; float64."""
    double = torch.float64
    means = spread * torch.randn(components, dimension, generator=generator, dtype=double)
    factor = torch.randn(components, dimension, dimension, generator=generator, dtype=double)
    covariances = 0.5 * scale**2 * (factor @ factor.mT / dimension + torch.eye(dimension, dtype=double))
    weights = 0.5 + torch.rand(components, generator=generator, dtype=double)
    means = means - (weights[:, None] * means).sum(0) / weights.sum()
    return GaussianMixture(weights, means, _symmetric(covariances))


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
