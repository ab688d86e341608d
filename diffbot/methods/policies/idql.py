"""IDQL (Q3): implicit Q-learning as an actor-critic whose actor is behaviour diffusion, re-weighted when it acts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.data.contract import Contract
from diffbot.errors import ConfigError, unknown
from diffbot.methods.chain import Chain, require_hooks
from diffbot.methods.critics import CriticConfig, Ensemble, ValueObjective, pessimistic, q_loss, td_target
from diffbot.methods.ema import EMAConfig
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.offline import OfflineConfig, OfflinePolicy, Polyak, Transitions, adam, best, pick
from diffbot.methods.protocol import Observation, Prefix
from diffbot.methods.registry import register
from diffbot.networks import build, network_config

SELECTIONS = ("implicit", "greedy")


@dataclass(frozen=True)
class IDQLConfig(OfflineConfig):
    """Settings of IDQL; "paper" is Hansen-Estruch et al. 2023, App. G, and the published code."""

    network: str = "layer_norm_mlp"  # paper: three residual blocks with layer norm, 256 wide
    network_options: dict[str, Any] = field(default_factory=dict)  # its settings; dropout 0.1 as in the paper
    diffusion_steps: int = 5  # T; paper: 5
    objective: str = "expectile"  # of V: expectile, quantile or exponential; paper: expectile for the results
    level: float = 0.7  # tau of the objective; paper: 0.7 locomotion, 0.9 AntMaze
    candidates: int = 64  # N behaviour actions drawn when acting; paper: 32-128 by domain
    # Which of them is executed. implicit: drawn by w(s, a) of the objective (Alg. 2); greedy: the highest Q, which the
    # published code evaluates with.
    selection: str = "implicit"
    critic: CriticConfig = field(default_factory=CriticConfig)  # paper: 2 x 256, ReLU
    optimizer: OptimizerConfig = field(default_factory=lambda: adam(3e-4, "cosine"))  # paper: 3e-4, cosine
    critic_optimizer: OptimizerConfig = field(default_factory=adam)  # paper: 3e-4
    ema: EMAConfig = field(default_factory=lambda: EMAConfig(0.999))  # paper: 0.999, without warm-up

    def __post_init__(self) -> None:
        super().__post_init__()
        ValueObjective(self.objective, self.level)
        if self.selection not in SELECTIONS:
            raise unknown("selection", self.selection, SELECTIONS)
        if self.candidates < 1:
            raise ConfigError(f"candidates must be at least 1, got {self.candidates}")


@register(
    name="idql",
    role="policy",
    system="Q3",
    paper="Hansen-Estruch et al., IDQL: Implicit Q-Learning as an Actor-Critic Method with Diffusion Policies, 2023",
    config=IDQLConfig,
)
class IDQL(OfflinePolicy):
    """Critic and behaviour are learned apart (Alg. 1); the policy exists only as weights on drawn actions (Alg. 2)."""

    Config = IDQLConfig
    config: IDQLConfig

    def __init__(self, config: IDQLConfig, contract: Contract, seed: int = 0) -> None:
        self.chain = Chain(config.diffusion_steps)
        self.objective = ValueObjective(config.objective, config.level)
        super().__init__(config, contract, seed)

    def build(self, seed: int) -> nn.ModuleDict:
        """`actor`, the averaged behaviour; `critic`, the target of double Q; `value`, V."""
        config = self.config
        actor = build(
            network_config(config.network, config.network_options),
            (self.flat_action_dim,),
            self.state_dim,
            generator=seed,
        )
        require_hooks(actor, config.network)
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
        """V by the objective (Eq. 3), Q by V (Eq. 4), and the denoising loss of the behaviour (Eq. 5)."""
        value_loss = self.value_loss(data)
        self.learners["value"].step(value_loss, progress)
        q, critic_loss = self.critic_loss(data)
        self.learners["critic"].step(critic_loss, progress)
        loss = self.behaviour_loss(data)
        return {
            "loss": loss.detach(),
            "value_loss": value_loss.detach(),
            "critic_loss": critic_loss.detach(),
            "q": q,
            **self.learners["actor"].step(loss, progress),
        }

    def value_loss(self, data: Transitions) -> Tensor:
        """Mean of f(min Q' - V) over the data."""
        with torch.no_grad():
            q = pessimistic(self.acting("critic")(data.state, data.action))
        return self.objective.loss(q - self.online("value")(data.state)[0])

    def critic_loss(self, data: Transitions) -> tuple[Tensor, Tensor]:
        """Q of the data [2, B] and its error to r + gamma V(s')."""
        with torch.no_grad():
            target = td_target(data.reward, data.discount, self.online("value")(data.next_state)[0])
        q = self.online("critic")(data.state, data.action)
        return q.detach(), q_loss(q, target)

    def behaviour_loss(self, data: Transitions) -> Tensor:
        """Error of the predicted noise on the actions of the data."""
        actor, rows = self.online("actor"), len(data.state)
        index = self.chain.draw_index(rows, self.generator)
        noise = torch.randn(
            rows, self.flat_action_dim, generator=self.generator, device=self.generator.device
        )
        return self.chain.loss(actor, self.chain.prepare(actor, data.state), data.action, index, noise)

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """[B, H, A]: one of `candidates` behaviour actions, by the weights of the implicit policy or the highest Q."""
        state, count = self.state(observation), self.config.candidates
        actor = self.acting("actor")
        noise = self.chain.noise(len(state) * count, self.flat_action_dim, generator).to(state)
        prepared = self.chain.prepare(actor, state).repeat(count)
        actions = self.chain.sample(actor, prepared, noise).unflatten(0, (-1, count))
        q = pessimistic(self.acting("critic").members(state, actions))
        if self.config.selection == "greedy":
            chosen = best(actions, q)
        else:
            weights = self.objective.weight(q - self.acting("value")(state)[0, :, None])
            chosen = pick(actions, weights, generator)
        return self.chunk(chosen, prefix)
