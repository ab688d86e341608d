"""What the policies share that learn from rewards of a fixed dataset: transitions, learners with targets, checks.

A subclass builds `model` (the modules that act, each the average or target of a trained copy), lists in `plan` how each is
trained, and writes `losses` or its own `update`, and `act`. Its file is then the paper's algorithm and nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError, DiffbotError, unknown
from diffbot.methods.ema import EMAConfig
from diffbot.methods.imitation import ImitationConfig, ImitationPolicy, selected_keys
from diffbot.methods.learner import Learner, OptimizerConfig
from diffbot.methods.protocol import Accelerator, LocalAccelerator, Observation, Prefix, blend
from diffbot.methods.rewards import REWARDS, RewardScale, inspect_transitions

PRODUCTS = ("highest", "high", "medium")


class DivergedCriticError(DiffbotError):
    """A value function left the range that the rewards allow. The last checkpoint before it is kept."""


@dataclass(frozen=True)
class Polyak(EMAConfig):
    """A target network: target <- maximum * target + (1 - maximum) * trained, from the first update on."""

    maximum: float = 0.995  # 1 - tau (Diffusion-QL, IDQL, IQL and TD3+BC: tau = 0.005)

    def decay(self, updates: int) -> float:
        """Constant."""
        return self.maximum


def adam(
    learning_rate: float = 3e-4, schedule: str = "constant", gradient_clip: float = 0.0
) -> OptimizerConfig:
    """Adam as the papers of this family use it: no weight decay, (0.9, 0.999), no warm-up."""
    return OptimizerConfig(learning_rate, 0.0, (0.9, 0.999), 0, schedule, gradient_clip)


@dataclass(frozen=True)
class OfflineConfig(ImitationConfig):
    """Settings that every policy has that learns from the rewards of a dataset."""

    observation_horizon: int = 1  # papers: the present state
    # H; papers: 1. Above it the critic values whole chunks, with n-step rewards (Q-chunking, Li et al. 2025)
    horizon: int = 1
    action_horizon: int = 1
    discount: float = 0.99  # gamma; papers: 0.99
    target_rate: float = 0.005  # tau of the target networks; papers: 0.005
    reward: str = "none"  # none, minus_one (sparse mazes), return_range (locomotion), standardise
    divergence: float = 1.5  # stop when |Q| exceeds this multiple of max |r| / (1 - gamma); 0: never
    # Matrix products of training: highest (float32), high or medium (bfloat16 on CPUs that have it, TF32 on GPUs, sums in
    # float32). These networks are small, and on CPU the products are most of an update.
    products: str = "medium"
    # Steps between looks at |Q|; each one waits for the device, which costs nothing on CPU.
    check_every: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.discount < 1.0:
            raise ConfigError(f"discount must be in [0, 1), got {self.discount}")
        if not 0.0 < self.target_rate <= 1.0:
            raise ConfigError(f"target_rate must be in (0, 1], got {self.target_rate}")
        if self.reward not in REWARDS:
            raise ConfigError(f"reward '{self.reward}' is not one of {', '.join(REWARDS)}")
        if self.divergence and self.divergence < 1.0:
            raise ConfigError(f"divergence is 0 or at least 1 (times the bound of Q), got {self.divergence}")
        if self.products not in PRODUCTS:
            raise unknown("precision of products", self.products, PRODUCTS)
        if self.check_every < 1:
            raise ConfigError(f"check_every must be at least 1, got {self.check_every}")


class Transitions(NamedTuple):
    """A batch of (s, a, r, s') as matrices; s' is H steps behind s, and A here stands for H actions in a row.

    reward: sum of gamma^i r_i over the chunk. discount: gamma^H, and 0 where the task itself ended before s'. A time limit
    is no such end: there the value of s' still counts.
    """

    state: Tensor  # [B, S]
    action: Tensor  # [B, A]
    reward: Tensor  # [B]
    discount: Tensor  # [B]
    next_state: Tensor  # [B, S]


class OfflinePolicy(ImitationPolicy):
    """Base of the policies that learn from transitions."""

    config: OfflineConfig
    scale: RewardScale

    def __init__(self, config: Any, contract: Contract, seed: int = 0) -> None:
        images = [key for key in selected_keys(config, contract) if contract.field(key).kind == "image"]
        if images:
            raise ConfigError(
                f"offline reinforcement learns from state keys, not from images ({', '.join(images)}). "
                f"Choose: method.keys=[{','.join(contract.state_keys)}]"
            )
        # Before the modules are built, because they ask for it.
        self.flat_action_dim = config.horizon * contract.action.size
        super().__init__(config, contract, seed)
        self.learners: dict[str, Learner] = {}
        self.scale = RewardScale()
        self.steps = 0
        self._largest: Tensor | None = None

    # -- what a subclass writes -----------------------------------------------------------------------------------

    @abstractmethod
    def plan(self) -> dict[str, tuple[OptimizerConfig, EMAConfig]]:
        """For each module of `model` that is trained: its optimiser, and how the module that acts follows it."""

    @abstractmethod
    def learn(self, data: Transitions, progress: float) -> dict[str, Tensor | float]:
        """One step of every learner. Returns metrics with "loss" (the policy's) and "q" [any shape], the values seen."""

    # -- data -----------------------------------------------------------------------------------------------------

    @classmethod
    def window(cls, config: Any, contract: Contract) -> WindowSpec:
        """Transitions of H steps. Those that a time limit cut off have no s' and are left out."""
        return WindowSpec(
            config.observation_horizon,
            config.horizon,
            selected_keys(config, contract),
            rewards=True,
            terminals=True,
            next_observations=True,
        )

    def inspect(self, windows: Windows) -> None:
        """Look through the transitions before training and choose the scale of the rewards.

        Raises DataError naming what they lack and how to mend it.
        """
        self.scale = inspect_transitions(windows, self.config.reward, self.config.discount)

    @property
    def state_dim(self) -> int:
        """S."""
        return self.observation_horizon * sum(self.contract.field(key).size for key in self.keys)

    def state(self, observation: Observation) -> Tensor:
        """[B, S], the keys in order. Raises ConfigError for a missing key or another shape."""
        parts = []
        for key in self.keys:
            if key not in observation:
                raise ConfigError(
                    f"the observation lacks '{key}'; the policy reads: {', '.join(self.keys)}; "
                    f"given: {', '.join(observation) or '(nothing)'}"
                )
            parts.append(observation[key].flatten(1))
        state = torch.cat(parts, dim=1)
        if state.shape[1] != self.state_dim:
            raise ConfigError(
                f"the observation has {state.shape[1]} numbers, the policy reads {self.state_dim}: "
                f"{self.observation_horizon} steps of {', '.join(self.keys)}"
            )
        return state

    def transitions(self, batch: Batch) -> Transitions:
        """The matrices of a transformed batch."""
        assert batch.rewards is not None and batch.terminals is not None
        assert batch.next_observations is not None
        gamma, horizon = self.config.discount, self.horizon
        reward = self.scale(batch.rewards)
        if horizon > 1:
            powers = gamma ** torch.arange(horizon, device=reward.device, dtype=reward.dtype)
            reward = (reward * batch.mask) @ powers
        alive = ~batch.terminals.any(1)
        return Transitions(
            self.state(batch.observations),
            batch.actions.flatten(1),
            reward.flatten(),
            gamma**horizon * alive.to(torch.float32),
            self.state(batch.next_observations),
        )

    def chunk(self, action: Tensor, prefix: Prefix | None) -> Tensor:
        """Flat actions [B, H A] as a chunk [B, H, A], blended into the prefix."""
        return blend(action.unflatten(1, (self.horizon, -1)), prefix)

    # -- training -------------------------------------------------------------------------------------------------

    def begin_training(self, accelerator: Accelerator | None = None, seed: int = 0) -> None:
        """Make a trained copy of each module of `plan`, its optimiser and the noise generator."""
        self.accelerator = accelerator or LocalAccelerator()
        self.to(self.accelerator.device)
        self.learners = {
            name: Learner(self.model[name], optimizer, follow, self.accelerator)
            for name, (optimizer, follow) in self.plan().items()
        }
        self.generator = torch.Generator(self.accelerator.device)
        self.generator.manual_seed(seed * 1009 + self.accelerator.rank)
        self.steps, self._largest = 0, None

    def online(self, name: str) -> Any:
        """The trained copy of a module."""
        if not self.learners:
            raise RuntimeError("call begin_training() before update() or training_state()")
        return self.learners[name].online

    def acting(self, name: str) -> Any:
        """The module that acts: the average or target of the trained copy."""
        return self.model[name]

    def update(self, batch: Batch, *, progress: float = 0.0) -> dict[str, Tensor | float]:
        """One step of every learner; metrics with "loss" and "q", the mean value.

        Raises DivergedCriticError when a value lies far beyond what the rewards allow.
        """
        with product_precision(self.config.products):
            metrics = self.learn(self.transitions(batch), progress)
        q = torch.as_tensor(metrics.pop("q")).detach()
        largest = q.abs().amax()
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        self.steps += 1
        if self.steps % self.config.check_every == 0:
            self.check_divergence()
        return {**metrics, "q": q.mean(), "q_largest": largest}

    def check_divergence(self) -> None:
        """Raise DivergedCriticError for a value since the last look that is not finite or beyond the bound."""
        if self._largest is None or not self.config.divergence:
            return
        largest, self._largest = float(self._largest), None
        bound = self.scale.largest / (1.0 - self.config.discount)
        if largest <= self.config.divergence * bound:
            return
        raise DivergedCriticError(
            f"the critic diverges: |Q| reached {largest:.4g} by step {self.steps}, but rewards of at most "
            f"{self.scale.largest:.4g} and discount {self.config.discount} allow {bound:.4g}. The checkpoints before "
            "it are kept in the run's folder. Lower the critic's learning rate or target_rate, scale the rewards "
            "(method.reward=return_range), or set method.divergence=0 to go on regardless"
        )

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The error of the acting policy's action against the data's, which is what validation shows."""
        action = self.act(batch.observations, generator=generator)
        return (action - batch.actions).square().mean(), {}

    def training_state(self) -> dict[str, Any]:
        """Learners, noise generator and counter. A critic that has just diverged is not worth a checkpoint and raises."""
        if not self.learners:
            raise RuntimeError("call begin_training() before update() or training_state()")
        self.check_divergence()
        return {
            "learners": {name: learner.state() for name, learner in self.learners.items()},
            "generator": self.generator.get_state(),
            "steps": self.steps,
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`, after `begin_training`."""
        for name, learner in self.learners.items():
            learner.load_state(state["learners"][name])
        self.generator.set_state(state["generator"])
        self.steps = int(state["steps"])


@contextmanager
def product_precision(name: str) -> Iterator[None]:
    """Matrix products of float32 within the block are computed as `torch.set_float32_matmul_precision(name)` says."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Gradients pass through the modules, but none are computed for their weights."""
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def pick(candidates: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
    """One of N candidates [B, N, A] with probability proportional to weights [B, N] >= 0: [B, A].

    By the Gumbel-free inverse of the cumulative weights: one uniform draw for each row.
    """
    total = weights.to(torch.float64).cumsum(1)
    draw = torch.rand(len(weights), 1, generator=generator, device=generator.device, dtype=torch.float64)
    index = torch.searchsorted(total, draw.to(total) * total[:, -1:], right=True).clamp_(
        max=weights.shape[1] - 1
    )
    return candidates[torch.arange(len(candidates), device=candidates.device), index[:, 0]]


def best(candidates: Tensor, scores: Tensor) -> Tensor:
    """The candidate [B, N, A] with the highest score [B, N]: [B, A]."""
    return candidates[torch.arange(len(candidates), device=candidates.device), scores.argmax(1)]
