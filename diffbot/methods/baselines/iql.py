"""IQL (Q17): values of the data's better actions without asking about others, and regression weighted by them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.methods.baselines.bc_mlp import mlp
from diffbot.methods.critics import CriticConfig, Ensemble, ValueObjective, pessimistic, q_loss, td_target
from diffbot.methods.ema import EMAConfig
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.offline import OfflineConfig, OfflinePolicy, Polyak, Transitions, adam
from diffbot.methods.protocol import Observation, Prefix
from diffbot.methods.registry import register
from diffbot.networks.seeding import seeded

LOG_STD = (-5.0, 2.0)  # range of the policy's log deviation (published code)


@dataclass(frozen=True)
class IQLConfig(OfflineConfig):
    """Settings of IQL; "paper" is Kostrikov et al. 2022, App. B."""

    width: int = 256  # of the actor; paper: 256
    depth: int = 2  # paper: 2
    expectile: float = 0.7  # tau; paper: 0.7 locomotion, 0.9 AntMaze
    beta: float = 3.0  # inverse temperature; paper: 3 locomotion, 10 AntMaze
    largest_weight: float = 100.0  # of exp(beta advantage); paper: 100
    critic: CriticConfig = field(default_factory=CriticConfig)  # paper: 2 x 256, ReLU
    optimizer: OptimizerConfig = field(default_factory=lambda: adam(3e-4, "cosine"))  # paper: 3e-4, cosine
    critic_optimizer: OptimizerConfig = field(default_factory=adam)  # paper: 3e-4
    ema: EMAConfig = field(default_factory=lambda: Polyak(0.0))  # of the actor; paper: none

    def __post_init__(self) -> None:
        super().__post_init__()
        ValueObjective("expectile", self.expectile)
        if self.width < 1 or self.depth < 1:
            raise ConfigError(f"width and depth must be at least 1, got {self.width}, {self.depth}")
        if self.beta < 0 or self.largest_weight <= 0:
            raise ConfigError(
                f"needs beta >= 0 and largest_weight > 0, got {self.beta} and {self.largest_weight}"
            )


class Gaussian(nn.Module):
    """Mean tanh(mlp(s)) and a deviation that does not depend on s."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(mlp(inputs, width, depth, outputs), nn.Tanh())
        self.log_std = nn.Parameter(torch.zeros(outputs))

    def log_prob(self, state: Tensor, action: Tensor) -> Tensor:
        """log density [B] of action [B, A]."""
        log_std = self.log_std.clamp(*LOG_STD)
        error = (action - self.mean(state)) * torch.exp(-log_std)
        return -(0.5 * error.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(1)


@register(
    name="iql",
    role="baseline",
    system="Q17",
    paper="Kostrikov et al., Offline Reinforcement Learning with Implicit Q-Learning, ICLR 2022",
    config=IQLConfig,
)
class IQL(OfflinePolicy):
    """Expectile V, Q by V, and advantage-weighted regression (Alg. 1)."""

    Config = IQLConfig
    config: IQLConfig

    def build(self, seed: int) -> nn.ModuleDict:
        """`actor`; `critic`, the target of double Q; `value`, V."""
        config = self.config
        with seeded(seed):
            actor = Gaussian(self.state_dim, config.width, config.depth, self.flat_action_dim)
        critic = Ensemble(self.state_dim + self.flat_action_dim, config.critic, 2, seed + 1)
        value = Ensemble(self.state_dim, config.critic, 1, seed + 2)
        return nn.ModuleDict({"actor": actor, "critic": critic, "value": value})

    def plan(self) -> dict[str, tuple[OptimizerConfig, EMAConfig]]:
        config = self.config
        return {
            "actor": (config.optimizer, config.ema),
            "critic": (config.critic_optimizer, Polyak(1.0 - config.target_rate)),
            "value": (config.critic_optimizer, Polyak(0.0)),
        }

    def learn(self, data: Transitions, progress: float) -> dict[str, Tensor | float]:
        """V (Eq. 5), policy (Eq. 7), Q (Eq. 6), in the order of the published code."""
        config, objective = self.config, ValueObjective("expectile", self.config.expectile)
        value, critic, actor = self.online("value"), self.online("critic"), self.online("actor")
        with torch.no_grad():
            target_q = pessimistic(self.acting("critic")(data.state, data.action))
        value_loss = objective.loss(target_q - value(data.state)[0])
        self.learners["value"].step(value_loss, progress)
        with torch.no_grad():
            advantage = target_q - value(data.state)[0]
            weight = (config.beta * advantage).exp_().clamp_(max=config.largest_weight)
            target = td_target(data.reward, data.discount, value(data.next_state)[0])
        loss = -(weight * actor.log_prob(data.state, data.action)).mean()
        step = self.learners["actor"].step(loss, progress)
        q = critic(data.state, data.action)
        critic_loss = q_loss(q, target)
        self.learners["critic"].step(critic_loss, progress)
        return {
            "loss": loss.detach(),
            "value_loss": value_loss.detach(),
            "critic_loss": critic_loss.detach(),
            "q": q.detach(),
            **step,
        }

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """[B, H, A]: the mean action; nothing is random."""
        return self.chunk(self.acting("actor").mean(self.state(observation)), prefix)
