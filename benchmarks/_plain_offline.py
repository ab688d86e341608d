"""Diffusion-QL and IDQL written plainly from their papers: eager modules, Adam, Python loops over parameters.

The opponents of benchmarks/offline_rl_speed.py. Every draw can be given, so that both sides can be run on the same numbers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # s, a, s', r [B, 1], not done [B, 1]


class Sampler:
    """Normalised transitions in tensors, a batch by random numbers of NumPy."""

    def __init__(self, arrays: Mapping[str, Tensor], batch_size: int, seed: int) -> None:
        self.arrays = tuple(arrays[k] for k in ("state", "action", "next_state", "reward", "not_done"))
        self.batch_size, self.rng = batch_size, np.random.default_rng(seed)

    def batch(self) -> Batch:
        index = torch.from_numpy(self.rng.integers(0, len(self.arrays[0]), self.batch_size))
        s, a, n, r, d = (array[index] for array in self.arrays)
        return s, a, n, r, d


class TimeEmbedding(nn.Module):
    """sin and cos of the step."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor) -> Tensor:
        half = self.dim // 2
        frequencies = torch.exp(torch.arange(half, device=t.device) * -(math.log(10000) / (half - 1)))
        angles = t[:, None] * frequencies[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class FourierFeatures(nn.Module):
    """cos and sin of learned frequencies."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(dim // 2))

    def forward(self, t: Tensor) -> Tensor:
        angles = 2 * math.pi * t[:, None] * self.frequencies
        return torch.cat((angles.cos(), angles.sin()), dim=-1)


class MishNet(nn.Module):
    """Diffusion-QL's denoiser (App. B): three Mish layers over action, time and state."""

    def __init__(self, state: int, action: int, width: int, time_dim: int) -> None:
        super().__init__()
        self.time = nn.Sequential(
            TimeEmbedding(time_dim),
            nn.Linear(time_dim, 4 * time_dim),
            nn.Mish(),
            nn.Linear(4 * time_dim, time_dim),
        )
        self.body = nn.Sequential(
            nn.Linear(action + time_dim + state, width), nn.Mish(),
            nn.Linear(width, width), nn.Mish(),
            nn.Linear(width, width), nn.Mish(),
            nn.Linear(width, action),
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, state: Tensor) -> Tensor:
        out: Tensor = self.body(torch.cat([x, self.time(t.float()), state], dim=1))
        return out


class ResidualBlock(nn.Module):
    """IDQL's block: dropout, layer norm, four times wider hidden layer."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Dropout(dropout),
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.net(x)
        return out


class ResidualNet(nn.Module):
    """IDQL's denoiser (Sec. 5): residual blocks with layer norm over action, time and state."""

    def __init__(
        self, state: int, action: int, width: int, blocks: int, time_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.time = nn.Sequential(
            FourierFeatures(time_dim),
            nn.Linear(time_dim, 2 * time_dim),
            nn.Mish(),
            nn.Linear(2 * time_dim, time_dim),
        )
        self.inner = nn.Linear(action + time_dim + state, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, dropout) for _ in range(blocks)))
        self.outer = nn.Linear(width, action)

    def forward(self, x: Tensor, t: Tensor, state: Tensor) -> Tensor:
        h = self.blocks(self.inner(torch.cat([x, self.time(t), state], dim=1)))
        out: Tensor = self.outer(F.relu(h))
        return out


class DoubleCritic(nn.Module):
    """Two Q networks."""

    def __init__(self, inputs: int, width: int, depth: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.q1, self.q2 = (perceptron(inputs, width, depth, activation) for _ in range(2))

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([state, action], dim=-1)
        return self.q1(x), self.q2(x)


def perceptron(inputs: int, width: int, depth: int, activation: type[nn.Module]) -> nn.Sequential:
    """`depth` hidden layers and one output."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(inputs if i == 0 else width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


class Diffusion:
    """Tables of a K-step DDPM with the published variance-preserving betas."""

    def __init__(self, steps: int) -> None:
        t = np.arange(1, steps + 1)
        betas = torch.tensor(
            1 - np.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2), dtype=torch.float32
        )
        alphas = 1.0 - betas
        cumulative = torch.cumprod(alphas, 0)
        before = torch.cat([torch.ones(1), cumulative[:-1]])
        self.steps = steps
        self.sqrt_cumulative, self.sqrt_rest = cumulative.sqrt(), (1.0 - cumulative).sqrt()
        self.sqrt_recip, self.sqrt_recipm1 = (1.0 / cumulative).sqrt(), (1.0 / cumulative - 1).sqrt()
        variance = betas * (1.0 - before) / (1.0 - cumulative)
        self.log_variance = torch.log(torch.clamp(variance, min=1e-20))
        self.mean1 = betas * before.sqrt() / (1.0 - cumulative)
        self.mean2 = (1.0 - before) * alphas.sqrt() / (1.0 - cumulative)

    def sample(
        self,
        model: nn.Module,
        state: Tensor,
        actions: int,
        noises: list[Tensor] | None = None,
        times: Tensor | None = None,
    ) -> Tensor:
        """Ancestral sampling; every step draws noise, the last one multiplies it by 0."""
        shape = (len(state), actions)
        x = torch.randn(shape) if noises is None else noises[0]
        for position, i in enumerate(reversed(range(self.steps))):
            t = torch.full((len(state),), i, dtype=torch.long)
            eps = model(x, t if times is None else times[t], state)
            x0 = self.at(self.sqrt_recip, t) * x - self.at(self.sqrt_recipm1, t) * eps
            x0 = x0.clamp(-1.0, 1.0)
            mean = self.at(self.mean1, t) * x0 + self.at(self.mean2, t) * x
            drawn = torch.randn_like(x) if noises is None or i == 0 else noises[position + 1]
            nonzero = (1 - (t == 0).float()).reshape(-1, 1)
            x = mean + nonzero * (0.5 * self.at(self.log_variance, t)).exp() * drawn
        return x.clamp(-1.0, 1.0)

    def loss(
        self,
        model: nn.Module,
        state: Tensor,
        action: Tensor,
        t: Tensor,
        noise: Tensor,
        times: Tensor | None = None,
    ) -> Tensor:
        x = self.at(self.sqrt_cumulative, t) * action + self.at(self.sqrt_rest, t) * noise
        return F.mse_loss(model(x, t if times is None else times[t], state), noise)

    @staticmethod
    def at(table: Tensor, t: Tensor) -> Tensor:
        return table.gather(-1, t).reshape(-1, 1)


def follow(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target <- (1 - rate) target + rate source, parameter by parameter."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data.copy_(rate * new.data + (1.0 - rate) * old.data)


class PlainDiffusionQL:
    """Wang et al. 2023, Alg. 1."""

    def __init__(
        self, actor: MishNet, critic: DoubleCritic, actions: int, steps: int = 5, clip: float = 9.0
    ) -> None:
        self.actor, self.critic, self.actions, self.clip = actor, critic, actions, clip
        self.average, self.target = copy.deepcopy(actor), copy.deepcopy(critic)
        self.diffusion = Diffusion(steps)
        self.times = torch.arange(1, steps + 1).float()  # steps are counted from 1 where the other side does
        self.actor_optimizer = torch.optim.Adam(actor.parameters(), lr=3e-4)
        self.critic_optimizer = torch.optim.Adam(critic.parameters(), lr=3e-4)

    def update(self, batch: Batch, draws: Mapping[str, list[Tensor]] | None = None) -> tuple[float, float]:
        """Losses of critic and actor. draws: "next", "index", "noise", "chain" and "member", where they are given."""
        state, action, next_state, reward, not_done = batch
        given = draws or {}
        q1, q2 = self.critic(state, action)
        next_action = self.diffusion.sample(
            self.average, next_state, self.actions, given.get("next"), self.times
        )
        t1, t2 = self.target(next_state, next_action)
        target = (reward + not_done * 0.99 * torch.min(t1, t2)).detach()
        critic_loss = F.mse_loss(q1, target) + F.mse_loss(q2, target)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        nn.utils.clip_grad_norm_(self.critic.parameters(), self.clip)
        self.critic_optimizer.step()

        index = given["index"][0] if draws else torch.randint(0, self.diffusion.steps, (len(state),))
        noise = given["noise"][0] if draws else torch.randn_like(action)
        bc_loss = self.diffusion.loss(self.actor, state, action, index, noise, self.times)
        new_action = self.diffusion.sample(self.actor, state, self.actions, given.get("chain"), self.times)
        q = self.critic(state, new_action)
        member = int(given["member"][0]) if draws else int(np.random.default_rng().uniform() > 0.5)
        q_loss = -q[member].mean() / q[1 - member].abs().mean().detach()
        actor_loss = bc_loss + q_loss
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), self.clip)
        self.actor_optimizer.step()

        follow(self.average, self.actor, 0.001)
        follow(self.target, self.critic, 0.005)
        return critic_loss.item(), actor_loss.item()


class PlainIDQL:
    """Hansen-Estruch et al. 2023, Alg. 1."""

    def __init__(
        self, actor: ResidualNet, critic: DoubleCritic, value: nn.Module, steps: int = 5, tau: float = 0.7
    ) -> None:
        self.actor, self.critic, self.value, self.tau = actor, critic, value, tau
        self.average, self.target = copy.deepcopy(actor), copy.deepcopy(critic)
        self.diffusion = Diffusion(steps)
        self.times = torch.arange(1, steps + 1).float() / steps
        self.optimizers = [torch.optim.Adam(m.parameters(), lr=3e-4) for m in (actor, critic, value)]

    def update(self, batch: Batch, draws: Mapping[str, list[Tensor]] | None = None) -> tuple[float, float]:
        """Losses of critic and actor. draws: "index" and "noise", where they are given."""
        state, action, next_state, reward, not_done = batch
        actor_optimizer, critic_optimizer, value_optimizer = self.optimizers
        with torch.no_grad():
            target_q = torch.min(*self.target(state, action))
        advantage = target_q - self.value(state)
        value_loss = (torch.abs(self.tau - (advantage < 0).float()) * advantage**2).mean()
        value_optimizer.zero_grad()
        value_loss.backward()
        value_optimizer.step()

        with torch.no_grad():
            target = reward + not_done * 0.99 * self.value(next_state)
        q1, q2 = self.critic(state, action)
        critic_loss = F.mse_loss(q1, target) + F.mse_loss(q2, target)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()

        index = draws["index"][0] if draws else torch.randint(0, self.diffusion.steps, (len(state),))
        noise = draws["noise"][0] if draws else torch.randn_like(action)
        actor_loss = self.diffusion.loss(self.actor, state, action, index, noise, self.times)
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()

        follow(self.average, self.actor, 0.001)
        follow(self.target, self.critic, 0.005)
        return critic_loss.item(), actor_loss.item()
