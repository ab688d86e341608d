"""SAC (Q17): an actor of maximum entropy that gathers its own data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.methods.baselines.bc_mlp import mlp
from diffbot.methods.critics import CriticConfig, Ensemble, pessimistic, q_loss, td_target
from diffbot.methods.ema import EMAConfig
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.offline import OfflineConfig, OfflinePolicy, Polyak, Transitions, adam, frozen
from diffbot.methods.protocol import Accelerator, Observation, Prefix
from diffbot.methods.registry import register
from diffbot.networks.seeding import seeded

LOG_STD = (-20.0, 2.0)  # range of the policy's log deviation (published code)


@dataclass(frozen=True)
class SACConfig(OfflineConfig):
    """Settings of SAC; "paper" is Haarnoja et al. 2018 (Soft Actor-Critic Algorithms and Applications), App. D."""

    normalization: str = "identity"  # of states; paper: none
    width: int = 256  # of the actor; paper: 256
    depth: int = 2  # paper: 2
    # Critic steps for each step of actor and temperature; paper: 1. SynthER and REDQ: the number of updates per step of the
    # environment
    policy_every: int = 1
    temperature: float = 1.0  # alpha at the start
    target_entropy: float | None = None  # None: -(number of actions), as in the paper
    critic: CriticConfig = field(default_factory=CriticConfig)  # paper: 2 x 256, ReLU
    optimizer: OptimizerConfig = field(default_factory=adam)  # paper: 3e-4
    critic_optimizer: OptimizerConfig = field(default_factory=adam)  # paper: 3e-4
    temperature_optimizer: OptimizerConfig = field(default_factory=adam)  # paper: 3e-4
    ema: EMAConfig = field(default_factory=lambda: Polyak(0.0))  # of the actor; paper: none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.depth < 1 or self.policy_every < 1:
            raise ConfigError(
                f"width, depth and policy_every must be at least 1, got {self.width}, {self.depth}, {self.policy_every}"
            )
        if not self.temperature > 0.0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")


class TanhGaussian(nn.Module):
    """A normal distribution of u given s, squashed to actions a = tanh(u) in (-1, 1) (App. C)."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.network = mlp(inputs, width, depth, 2 * outputs)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log deviation of u, [B, A] each."""
        mean, log_std = self.network(state).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD)

    def sample(self, state: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Actions [B, A] that carry gradients to the weights, and their log density [B]."""
        mean, log_std = self(state)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
        u = torch.addcmul(mean, log_std.exp(), noise)
        return torch.tanh(u), squashed_log_density(u, noise, log_std)


def squashed_log_density(u: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    """log density [B] of tanh(u) for u = mean + exp(log_std) noise, all [B, A] (Eq. 21).

    log(1 - tanh(u)^2) is written as 2 (log 2 - u - softplus(-2u)), which stays finite for any u.
    """
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    return (normal - 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))).sum(-1)


class Temperature(nn.Module):
    """alpha > 0, learned by its logarithm."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))

    def loss(self, log_density: Tensor, target_entropy: float) -> Tensor:
        """J(alpha) = E[-alpha (log pi + target)] (Eq. 18): alpha grows while the entropy is below its target."""
        return -(self.log.exp() * (log_density + target_entropy)).mean()


@register(
    name="sac",
    role="baseline",
    system="Q17",
    paper="Haarnoja et al., Soft Actor-Critic Algorithms and Applications, 2018",
    config=SACConfig,
)
class SAC(OfflinePolicy):
    """Double soft Q with targets, a squashed Gaussian actor, and the temperature that keeps its entropy (Alg. 1)."""

    Config = SACConfig
    config: SACConfig

    def build(self, seed: int) -> nn.ModuleDict:
        """`actor`; `critic`, the target of double Q; `temperature`."""
        config = self.config
        with seeded(seed):
            actor = TanhGaussian(self.state_dim, config.width, config.depth, self.flat_action_dim)
        critic = Ensemble(self.state_dim + self.flat_action_dim, config.critic, 2, seed + 1)
        temperature = Temperature(config.temperature)
        return nn.ModuleDict({"actor": actor, "critic": critic, "temperature": temperature})

    def plan(self) -> dict[str, tuple[OptimizerConfig, EMAConfig]]:
        config = self.config
        return {
            "actor": (config.optimizer, config.ema),
            "critic": (config.critic_optimizer, Polyak(1.0 - config.target_rate)),
            "temperature": (config.temperature_optimizer, Polyak(0.0)),
        }

    def begin_training(self, accelerator: Accelerator | None = None, seed: int = 0) -> None:
        super().begin_training(accelerator, seed)
        self.actor_loss = torch.zeros((), device=self.accelerator.device)
        self.largest_reward = torch.zeros((), device=self.accelerator.device)

    @property
    def target_entropy(self) -> float:
        """Entropy that the temperature keeps the policy at."""
        given = self.config.target_entropy
        return float(-self.flat_action_dim if given is None else given)

    def learn(self, data: Transitions, progress: float) -> dict[str, Tensor | float]:
        """A step of the critics; in every `policy_every`-th also of actor and temperature. "loss" is the actor's last."""
        q = self.online("critic")(data.state, data.action)
        critic_loss = q_loss(q, self.target(data))
        self.learners["critic"].step(critic_loss, progress)
        if self.steps % self.config.policy_every == 0:
            loss, log_density = self.improvement(data.state)
            self.learners["actor"].step(loss, progress)
            temperature = self.online("temperature")
            self.learners["temperature"].step(
                temperature.loss(log_density.detach(), self.target_entropy), progress
            )
            self.actor_loss = loss.detach()
        return {
            "loss": self.actor_loss,
            "critic_loss": critic_loss.detach(),
            "q": q.detach(),
            "temperature": self.online("temperature").log.detach().exp(),
        }

    @torch.no_grad()
    def target(self, data: Transitions) -> Tensor:
        """r + gamma (min Q'(s', a') - alpha log pi(a' | s')) [B] with a' of the present actor (Eq. 5)."""
        action, log_density = self.online("actor").sample(data.next_state, self.generator)
        value = pessimistic(self.acting("critic")(data.next_state, action))
        bonus = -self.online("temperature").log.exp() * log_density
        reward = torch.addcmul(data.reward, data.discount, bonus)
        self.largest_reward = torch.maximum(self.largest_reward, reward.abs().amax())
        return td_target(reward, data.discount, value)

    def check_divergence(self) -> None:
        """As of every method of this family; what bounds Q are the rewards with the entropy that they earn, as seen so far."""
        self.scale = replace(self.scale, largest=float(self.largest_reward))
        super().check_divergence()

    def improvement(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """E[alpha log pi(a | s) - min Q(s, a)] (Eq. 9), and the log densities [B]."""
        critic = self.online("critic")
        action, log_density = self.online("actor").sample(state, self.generator)
        with frozen(critic):
            q = pessimistic(critic(state, action))
        alpha = self.online("temperature").log.detach().exp()
        return (alpha * log_density - q).mean(), log_density

    def training_state(self) -> dict[str, Any]:
        """As of every method of this family, the loss of the actor's last step and the largest reward seen."""
        own = {"actor_loss": float(self.actor_loss), "largest_reward": float(self.largest_reward)}
        return {**super().training_state(), **own}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`, after `begin_training`."""
        super().load_training_state(state)
        for name in ("actor_loss", "largest_reward"):
            setattr(self, name, torch.tensor(float(state[name]), device=self.accelerator.device))

    @torch.no_grad()
    def explore(self, observation: Observation, *, generator: torch.Generator) -> Tensor:
        """[B, H, A]: an action drawn from the policy that is being trained."""
        return self.chunk(self.acting("actor").sample(self.state(observation), generator)[0], None)

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """[B, H, A]: tanh of the mean; nothing is random."""
        mean, _ = self.acting("actor")(self.state(observation))
        return self.chunk(torch.tanh(mean), prefix)
