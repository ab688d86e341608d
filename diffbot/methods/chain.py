"""The short diffusion chain of policies that are trained by reinforcement: K ancestral steps through which gradients pass.

The networks are small, so their cost is what surrounds the matrix products. Here the state's and the time's halves of the
first layer are computed once for the loss and all K steps (`Network.precompute`), coefficients are Python numbers, and all
noise of an update comes from one draw.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffbot.diffusion.schedule import Schedule, scalars
from diffbot.diffusion.schedules import VPLinear
from diffbot.diffusion.solvers.ancestral import forward_variance, posterior_std
from diffbot.errors import ConfigError
from diffbot.networks import Condition

# beta_k = 1 - exp(-b0/K - (b1 - b0)(2k - 1)/(2 K^2)) of Diffusion-QL, App. B (after Xiao et al. 2022): VP-linear at t = k/K.
PUBLISHED = VPLinear(beta_min=0.1, beta_max=10.0)


class Step(NamedTuple):
    """x0 = (x - sigma eps) / alpha, x <- keep x + pull x0 + std z."""

    alpha: float
    sigma: float
    keep: float
    pull: float
    std: float


class Prepared(NamedTuple):
    """What of a network's first layer depends on no action. time: [K, M], row 0 for the noisiest step; state: [B, M]."""

    time: Tensor
    state: Tensor

    def repeat(self, count: int) -> Prepared:
        """For `count` candidates of each state, in a row."""
        return Prepared(self.time, self.state.repeat_interleave(count, dim=0))


class Chain:
    """K-step DDPM with predicted noise and clean actions clipped to [-1, 1] (Diffusion-QL, Eq. 1 and Alg. 1).

    The networks are called through their hooks `precompute` and `modulated`, so every network has them that can be used.
    """

    def __init__(self, steps: int, schedule: Schedule = PUBLISHED) -> None:
        if steps < 1:
            raise ConfigError(f"diffusion_steps must be at least 1, got {steps}")
        self.steps = steps
        self.times = torch.tensor([k / steps for k in range(steps, 0, -1)])
        self.table: list[Step] = []
        for k in range(steps, 0, -1):
            t = scalars(schedule, k / steps)
            if k == 1:
                self.table.append(Step(t.alpha, t.sigma, 0.0, 1.0, 0.0))
                continue
            s = scalars(schedule, (k - 1) / steps)
            keep = t.alpha / s.alpha * s.sigma**2 / t.sigma**2
            pull = s.alpha * forward_variance(t, s) / t.sigma**2
            self.table.append(Step(t.alpha, t.sigma, keep, pull, posterior_std(t, s)))
        self._alphas = torch.tensor([[step.alpha] for step in self.table])
        self._sigmas = torch.tensor([[step.sigma] for step in self.table])

    def prepare(self, network: Any, state: Tensor) -> Prepared:
        """The halves of the first layer for state [B, S]."""
        if self.times.device != state.device:
            self.times, self._alphas, self._sigmas = (
                x.to(state.device) for x in (self.times, self._alphas, self._sigmas)
            )
        cache = network.precompute(self.times, Condition(global_=state))
        return Prepared(cache.time_part, cache.condition_part)

    def noise(self, rows: int, actions: int, generator: torch.Generator) -> Tensor:
        """What `sample` uses up, [K, rows, actions]."""
        return torch.randn(self.steps, rows, actions, generator=generator, device=generator.device)

    def sample(self, network: Any, prepared: Prepared, noise: Tensor) -> Tensor:
        """Actions [B, A] in [-1, 1] from noise [K, B, A]; differentiable in the network and the state."""
        x = noise[0]
        for k, step in enumerate(self.table):
            eps = network.modulated(x, prepared.time[k] + prepared.state)
            # (x - sigma eps) / alpha in one pass over memory
            x0 = torch.add(x / step.alpha, eps, alpha=-step.sigma / step.alpha).clamp(-1.0, 1.0)
            if k == self.steps - 1:
                return x0
            x = torch.add(step.keep * x, x0, alpha=step.pull).add_(noise[k + 1], alpha=step.std)
        raise AssertionError("a chain has at least one step")

    def loss(self, network: Any, prepared: Prepared, action: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the predicted noise: action and noise [B, A], index [B] in 0..K-1 (0 is the noisiest)."""
        x = self._alphas[index] * action + self._sigmas[index] * noise
        predicted = network.modulated(x, prepared.time[index] + prepared.state)
        return (predicted - noise).square().mean()

    def draw_index(self, rows: int, generator: torch.Generator) -> Tensor:
        """Uniform steps for `loss`, int64 [rows]."""
        return torch.randint(self.steps, (rows,), generator=generator, device=generator.device)


def require_hooks(network: Any, name: str) -> None:
    """Raise ConfigError for a network whose first layer does not split into action, time and state."""
    if not hasattr(network, "modulated"):
        raise ConfigError(
            f"network '{name}' cannot be used here: a chain needs one whose first layer splits by its inputs. "
            "Choose method.network=mlp or method.network=layer_norm_mlp"
        )


def stable_scale(q: Tensor) -> Tensor:
    """Mean of |q| without its gradient, and not 0: what Diffusion-QL and TD3+BC divide their value term by."""
    return q.detach().abs().mean().clamp_min(math.sqrt(torch.finfo(q.dtype).eps))
