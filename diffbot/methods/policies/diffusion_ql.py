"""Diffusion-QL (Q1): a diffusion policy that is pulled to the data by denoising and to high values by Q-learning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.data.contract import Contract
from diffbot.errors import ConfigError
from diffbot.methods.chain import Chain, require_hooks, stable_scale
from diffbot.methods.critics import CriticConfig, Ensemble, max_q_backup, pessimistic, q_loss, td_target
from diffbot.methods.ema import EMAConfig
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.offline import OfflineConfig, OfflinePolicy, Polyak, Transitions, adam, frozen, pick
from diffbot.methods.protocol import Observation, Prefix
from diffbot.methods.registry import register
from diffbot.networks import build, network_config

PAPER_MLP: dict[str, Any] = {"width": 256, "depth": 3, "residual": False, "time_dim": 16, "time_scale": 5.0}


@dataclass(frozen=True)
class DiffusionQLConfig(OfflineConfig):
    """Settings of Diffusion-QL; "paper" is Wang et al. 2023, App. D, Tab. 3-5, and the published code."""

    network: str = "mlp"  # paper: three layers of 256 with Mish
    # its settings; empty: for mlp those of the paper, see PAPER_MLP
    network_options: dict[str, Any] = field(default_factory=dict)
    diffusion_steps: int = 5  # T; paper: 5
    eta: float = 1.0  # weight of the value term, alpha = eta / E|Q|; paper: 1.0 locomotion, 2.0-3.5 AntMaze
    max_q_backup: bool = False  # targets from the best of several next actions; paper: AntMaze only
    backup_samples: int = 10  # of max_q_backup; paper: 10
    candidates: int = 50  # actions drawn when acting, one is chosen by softmax of Q; paper: 50
    temperature: float = 1.0  # of that softmax; paper: 1
    critic: CriticConfig = field(default_factory=lambda: CriticConfig(256, 3, "mish"))  # paper: 3 x 256, Mish
    optimizer: OptimizerConfig = field(default_factory=lambda: adam(3e-4, "cosine", 9.0))  # paper: 3e-4, 1-10
    critic_optimizer: OptimizerConfig = field(default_factory=lambda: adam(3e-4, "cosine", 9.0))
    # paper: 0.995 in every fifth step from step 1000 on; here in every step, warming up, so that short runs forget the
    # initial weights too
    ema: EMAConfig = field(default_factory=lambda: EMAConfig(0.999))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("backup_samples", "candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.eta < 0 or self.temperature <= 0:
            raise ConfigError(f"needs eta >= 0 and temperature > 0, got {self.eta} and {self.temperature}")


@register(
    name="diffusion_ql",
    role="policy",
    system="Q1",
    paper="Wang et al., Diffusion Policies as an Expressive Policy Class for Offline RL, ICLR 2023",
    config=DiffusionQLConfig,
)
class DiffusionQL(OfflinePolicy):
    """Denoising loss minus alpha E[Q(s, a0)], with the gradient through the whole chain that draws a0 (Alg. 1)."""

    Config = DiffusionQLConfig
    config: DiffusionQLConfig

    def __init__(self, config: DiffusionQLConfig, contract: Contract, seed: int = 0) -> None:
        self.chain = Chain(config.diffusion_steps)
        super().__init__(config, contract, seed)

    def build(self, seed: int) -> nn.ModuleDict:
        """`actor`, the averaged denoiser, and `critic`, the target of double Q."""
        config = self.config
        actor = build(
            network_config(
                config.network, (PAPER_MLP if config.network == "mlp" else {}) | config.network_options
            ),
            (self.flat_action_dim,),
            self.state_dim,
            generator=seed,
        )
        require_hooks(actor, config.network)
        critic = Ensemble(self.state_dim + self.flat_action_dim, config.critic, 2, seed + 1)
        return nn.ModuleDict({"actor": actor, "critic": critic})

    def plan(self) -> dict[str, tuple[OptimizerConfig, EMAConfig]]:
        config = self.config
        return {
            "actor": (config.optimizer, config.ema),
            "critic": (config.critic_optimizer, Polyak(1.0 - config.target_rate)),
        }

    def learn(self, data: Transitions, progress: float) -> dict[str, Tensor | float]:
        """Policy evaluation (Eq. 4), then policy improvement (Eq. 3)."""
        q, critic_loss = self.evaluation(data)
        more = self.learners["critic"].step(critic_loss, progress)
        actor_loss, metrics = self.improvement(data)
        step = self.learners["actor"].step(actor_loss, progress)
        return {
            "loss": actor_loss.detach(),
            "critic_loss": critic_loss.detach(),
            "q": q,
            **metrics,
            "critic_gradient_norm": more.get("gradient_norm", 0.0),
            **step,
        }

    def evaluation(self, data: Transitions) -> tuple[Tensor, Tensor]:
        """Q of the data [2, B] and its error to r + gamma min Q'(s', a'), with a' of the averaged policy."""
        target = self.target(data)
        q = self.online("critic")(data.state, data.action)
        return q.detach(), q_loss(q, target)

    @torch.no_grad()
    def target(self, data: Transitions) -> Tensor:
        """The TD target [B], plain or with the best of `backup_samples` next actions."""
        actor, critic, state = self.acting("actor"), self.acting("critic"), data.next_state
        count = self.config.backup_samples if self.config.max_q_backup else 1
        prepared = self.chain.prepare(actor, state)
        noise = self.chain.noise(len(state) * count, self.flat_action_dim, self.generator)
        if count == 1:
            value = pessimistic(critic(state, self.chain.sample(actor, prepared, noise)))
        else:
            action = self.chain.sample(actor, prepared.repeat(count), noise).unflatten(0, (-1, count))
            value = max_q_backup(critic.members(state, action))
        return td_target(data.reward, data.discount, value)

    def improvement(self, data: Transitions) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The denoising loss minus eta Q_i(s, a0) / E|Q_j|, with i and j drawn anew in each step (published code)."""
        actor, critic = self.online("actor"), self.online("critic")
        rows, generator = len(data.state), self.generator
        index = self.chain.draw_index(rows, generator)
        noise = self.chain.noise(rows, self.flat_action_dim, generator)
        first = torch.randn(rows, self.flat_action_dim, generator=generator, device=generator.device)
        member = int(torch.randint(2, (), generator=generator, device=generator.device))
        prepared = self.chain.prepare(actor, data.state)
        denoising = self.chain.loss(actor, prepared, data.action, index, first)
        action = self.chain.sample(actor, prepared, noise)
        with frozen(critic):
            q = critic(data.state, action, member=member)
        with torch.no_grad():
            other = critic(data.state, action, member=1 - member)
        value = -q.mean() / stable_scale(other)
        return denoising + self.config.eta * value, {
            "denoising_loss": denoising.detach(),
            "value_loss": value.detach(),
        }

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """[B, H, A]: of `candidates` actions one, drawn by the softmax of the target critic's Q (Sec. 4, published code)."""
        state, count = self.state(observation), self.config.candidates
        actor, critic = self.acting("actor"), self.acting("critic")
        noise = self.chain.noise(len(state) * count, self.flat_action_dim, generator).to(state)
        prepared = self.chain.prepare(actor, state).repeat(count)
        actions = self.chain.sample(actor, prepared, noise).unflatten(0, (-1, count))
        q = pessimistic(critic.members(state, actions))
        chosen = pick(actions, torch.softmax(q / self.config.temperature, dim=1), generator)
        return self.chunk(chosen, prefix)
