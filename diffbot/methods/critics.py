"""Value functions of offline reinforcement learning: ensembles of Q and V networks, their losses and their targets.

B batch, E members of an ensemble, S width of the state vector, A action dimension, N candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.errors import ConfigError, unknown
from diffbot.networks.activations import mish
from diffbot.networks.seeding import seeded

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "mish": mish, "gelu": F.gelu}


@dataclass(frozen=True)
class CriticConfig:
    """The networks of Q and V."""

    width: int = 256  # units per hidden layer (Diffusion-QL, IDQL, IQL and TD3+BC: 256)
    depth: int = 2  # hidden layers (IDQL, IQL and TD3+BC: 2, Diffusion-QL: 3)
    activation: str = "relu"  # relu, gelu or mish (Diffusion-QL)
    layer_norm: bool = False  # before each activation (papers: False)

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1:
            raise ConfigError(f"a critic needs width and depth of at least 1, got {self.width}, {self.depth}")
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)


class Ensemble(nn.Module):
    """E perceptrons with one output over the same input, all members in one batched product per layer.

    Every member starts as `nn.Linear` does (He et al. 2015 with a = sqrt 5), from `seed` alone.
    """

    def __init__(self, inputs: int, config: CriticConfig, members: int, seed: int) -> None:
        super().__init__()
        self.config = config
        sizes = [inputs, *[config.width] * config.depth, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        with seeded(seed):
            for before, after in pairwise(sizes):
                bound = 1.0 / math.sqrt(before)
                self.weights.append(torch.empty(members, before, after).uniform_(-bound, bound))
                self.biases.append(torch.empty(members, 1, after).uniform_(-bound, bound))
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.width) for _ in range(config.depth * int(config.layer_norm))
        )
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, *inputs: Tensor, member: int | None = None) -> Tensor:
        """Inputs [B, ...] are joined; returns [E, B], or [1, B] of one member."""
        h = torch.cat(inputs, dim=-1) if len(inputs) > 1 else inputs[0]
        chosen = slice(None) if member is None else slice(member, member + 1)
        h = h.expand(len(self.weights[0][chosen]), *h.shape)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias[chosen], h, weight[chosen])
            if layer < last:
                h = self.activation(self.norms[layer](h) if len(self.norms) else h)
        return h.squeeze(-1)

    def members(self, *inputs: Tensor) -> Tensor:
        """As `forward` for inputs with candidates, [B, N, ...] (a [B, ...] input is repeated): [E, B, N]."""
        shape = next(x.shape[:2] for x in inputs if x.dim() == 3)
        rows = [x if x.dim() == 3 else x[:, None].expand(*shape, x.shape[-1]) for x in inputs]
        return self(*(x.reshape(-1, x.shape[-1]) for x in rows)).unflatten(1, shape)


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """r + gamma (1 - terminal) V(s'), all [B]; `discount` is gamma (1 - terminal)."""
    return torch.addcmul(reward, discount, next_value)


def pessimistic(q: Tensor) -> Tensor:
    """The least value over the members: [E, B] -> [B] (clipped double Q, Fujimoto et al. 2018, Eq. 10)."""
    return q.amin(0)


def max_q_backup(q: Tensor) -> Tensor:
    """Best candidate of each member, then the least member: [E, B, N] -> [B] (Kumar et al. 2019; Diffusion-QL, App. B)."""
    return q.amax(-1).amin(0)


def q_loss(q: Tensor, target: Tensor) -> Tensor:
    """Sum over the members of the mean squared error of q [E, B] to the target [B]."""
    return (q - target).square().mean(1).sum()


@dataclass(frozen=True)
class ValueObjective:
    """A convex loss f(Q - V) that makes V more than the mean of Q over the actions of the data, and its implicit policy.

    IDQL (Hansen-Estruch et al. 2023), Sec. 4: minimising E f(Q - V) makes V the value of the policy that is proportional
    to behaviour times w(s, a) = |f'(Q - V)| / |Q - V| (Theorem 4.1). kind:
    - "expectile": f(u) = |level - 1(u < 0)| u^2, w = |level - 1(u < 0)|; IQL's (Kostrikov et al. 2022, Eq. 5)
    - "quantile": f(u) = |level - 1(u < 0)| |u|, w = |level - 1(u < 0)| / |u|
    - "exponential": f(u) = exp(level u) - level u, w = level |exp(level u) - 1| / |u|
    """

    kind: str = "expectile"
    level: float = 0.7

    def __post_init__(self) -> None:
        if self.kind not in OBJECTIVES:
            raise unknown("value objective", self.kind, OBJECTIVES)
        if self.kind != "exponential" and not 0.0 < self.level < 1.0:
            raise ConfigError(f"the level of an {self.kind} must be within (0, 1), got {self.level}")
        if self.level <= 0.0:
            raise ConfigError(f"the level of an exponential must be positive, got {self.level}")

    def loss(self, advantage: Tensor) -> Tensor:
        """Mean of f over Q - V."""
        u = advantage
        if self.kind == "exponential":
            # Beyond the cut-off the loss goes on as its tangent, so one outlier cannot overflow it.
            bounded = (self.level * u).clamp(max=LARGEST_EXPONENT)
            beyond = (self.level * u - bounded) * math.exp(LARGEST_EXPONENT)
            return (bounded.exp() + beyond - self.level * u).mean()
        size = u.square() if self.kind == "expectile" else u.abs()
        return (self._side(u) * size).mean()

    def weight(self, advantage: Tensor) -> Tensor:
        """w of the implicit policy, not normalised, of advantage's shape."""
        u = advantage
        if self.kind == "expectile":
            return self._side(u)
        size = u.abs().clamp_min(SMALLEST_ADVANTAGE)
        if self.kind == "quantile":
            return self._side(u) / size
        return self.level * torch.expm1((self.level * u).clamp(max=LARGEST_EXPONENT)).abs() / size

    def _side(self, u: Tensor) -> Tensor:
        return torch.where(u < 0, 1.0 - self.level, self.level)


OBJECTIVES = ("expectile", "quantile", "exponential")
LARGEST_EXPONENT = 5.0
SMALLEST_ADVANTAGE = 1e-3
