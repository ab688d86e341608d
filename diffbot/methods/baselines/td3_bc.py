"""TD3+BC (Q17): a deterministic actor-critic that is held to the data by regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.methods.baselines.bc_mlp import mlp
from diffbot.methods.chain import stable_scale
from diffbot.methods.critics import CriticConfig, Ensemble, pessimistic, q_loss, td_target
from diffbot.methods.ema import EMAConfig
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.offline import OfflineConfig, OfflinePolicy, Polyak, Transitions, adam, frozen
from diffbot.methods.protocol import Accelerator, Observation, Prefix
from diffbot.methods.registry import register
from diffbot.networks.seeding import seeded


@dataclass(frozen=True)
class TD3BCConfig(OfflineConfig):
    """Settings of TD3+BC; "paper" is Fujimoto & Gu 2021, App. A, Tab. 1."""

    normalization: str = "min_max"  # paper: mean and deviation of states, actions as they are
    width: int = 256  # of the actor; paper: 256
    depth: int = 2  # paper: 2
    alpha: float = 2.5  # weight of the value term, lambda = alpha / E|Q|; paper: 2.5
    policy_noise: float = 0.2  # deviation of the noise on target actions; paper: 0.2
    noise_clip: float = 0.5  # paper: 0.5
    policy_every: int = 2  # critic steps for each step of actor and targets; paper: 2
    critic: CriticConfig = field(default_factory=CriticConfig)  # paper: 2 x 256, ReLU
    optimizer: OptimizerConfig = field(default_factory=adam)  # paper: 3e-4
    critic_optimizer: OptimizerConfig = field(default_factory=adam)  # paper: 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.depth < 1 or self.policy_every < 1:
            raise ConfigError(
                f"width, depth and policy_every must be at least 1, got {self.width}, {self.depth}, {self.policy_every}"
            )
        if self.alpha < 0 or self.policy_noise < 0 or self.noise_clip < 0:
            raise ConfigError(
                "alpha, policy_noise and noise_clip must not be negative, got "
                f"{self.alpha}, {self.policy_noise}, {self.noise_clip}"
            )


@register(
    name="td3_bc",
    role="baseline",
    system="Q17",
    paper="Fujimoto & Gu, A Minimalist Approach to Offline Reinforcement Learning, NeurIPS 2021",
    config=TD3BCConfig,
)
class TD3BC(OfflinePolicy):
    """Maximise lambda Q(s, pi(s)) - (pi(s) - a)^2 (Eq. 3), on TD3's critics (Fujimoto et al. 2018)."""

    Config = TD3BCConfig
    config: TD3BCConfig

    def build(self, seed: int) -> nn.ModuleDict:
        """`actor` and `critic`, both the slow copies."""
        config = self.config
        with seeded(seed):
            actor = nn.Sequential(
                mlp(self.state_dim, config.width, config.depth, self.flat_action_dim), nn.Tanh()
            )
        critic = Ensemble(self.state_dim + self.flat_action_dim, config.critic, 2, seed + 1)
        return nn.ModuleDict({"actor": actor, "critic": critic})

    def plan(self) -> dict[str, tuple[OptimizerConfig, EMAConfig]]:
        """Targets follow with tau; the critic's, which in the paper waits for the actor's steps, with tau / policy_every."""
        config = self.config
        return {
            "actor": (config.optimizer, Polyak(1.0 - config.target_rate)),
            "critic": (config.critic_optimizer, Polyak(1.0 - config.target_rate / config.policy_every)),
        }

    def begin_training(self, accelerator: Accelerator | None = None, seed: int = 0) -> None:
        super().begin_training(accelerator, seed)
        self.actor_loss = torch.zeros((), device=self.accelerator.device)

    def learn(self, data: Transitions, progress: float) -> dict[str, Tensor | float]:
        """A step of the critics, and of the actor in every `policy_every`-th. "loss" is that of the actor's last step."""
        q, critic_loss = self.evaluation(data)
        self.learners["critic"].step(critic_loss, progress)
        if self.steps % self.config.policy_every == 0:
            loss = self.improvement(data)
            self.learners["actor"].step(loss, progress)
            self.actor_loss = loss.detach()
        return {"loss": self.actor_loss, "critic_loss": critic_loss.detach(), "q": q}

    def training_state(self) -> dict[str, Any]:
        """As of every method of this family, and the loss of the actor's last step."""
        return {**super().training_state(), "actor_loss": float(self.actor_loss)}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`, after `begin_training`."""
        super().load_training_state(state)
        self.actor_loss = torch.tensor(float(state["actor_loss"]), device=self.accelerator.device)

    def evaluation(self, data: Transitions) -> tuple[Tensor, Tensor]:
        """Q of the data and its error to r + gamma min Q'(s', pi'(s') + clipped noise)."""
        config = self.config
        with torch.no_grad():
            noise = torch.randn(data.action.shape, generator=self.generator, device=self.generator.device)
            noise = (config.policy_noise * noise).clamp_(-config.noise_clip, config.noise_clip)
            action = (self.acting("actor")(data.next_state) + noise).clamp_(-1.0, 1.0)
            target = td_target(
                data.reward, data.discount, pessimistic(self.acting("critic")(data.next_state, action))
            )
        q = self.online("critic")(data.state, data.action)
        return q.detach(), q_loss(q, target)

    def improvement(self, data: Transitions) -> Tensor:
        """(pi(s) - a)^2 - lambda Q_1(s, pi(s))."""
        critic = self.online("critic")
        action = self.online("actor")(data.state)
        with frozen(critic):
            q = critic(data.state, action, member=0)
        return (action - data.action).square().mean() - self.config.alpha * q.mean() / stable_scale(q)

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """[B, H, A]: the actor's action; nothing is random."""
        return self.chunk(self.acting("actor")(self.state(observation)), prefix)
