"""What all policies share that learn actions from demonstrations: keys, windows, transforms, weights and training state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.transforms import TransformGroup
from diffbot.data.window_spec import WindowSpec
from diffbot.errors import ConfigError, ContractError
from diffbot.methods.ema import EMAConfig
from diffbot.methods.learner import Learner, OptimizerConfig, load_weights
from diffbot.methods.protocol import Accelerator, LocalAccelerator, Observation, Prefix
from diffbot.networks.encoders import ObservationConfig, ObservationEncoder
from diffbot.networks.seeding import seeded


@dataclass(frozen=True)
class ImitationConfig:
    """Settings that every imitation policy has."""

    keys: tuple[str, ...] = ()  # observation keys; empty: every state key of the dataset
    observation_horizon: int = 2  # To: steps of history (Diffusion Policy 2)
    horizon: int = 16  # Tp: predicted steps (Diffusion Policy 16)
    action_horizon: int = 8  # Ta: executed steps before the next chunk (Diffusion Policy 8)
    mask_padding: bool = (
        False  # leave steps behind the episode's end out of the loss (Diffusion Policy keeps them)
    )
    normalization: str = "min_max"  # of states and actions: min_max to [-1, 1], mean_std, quantile
    encoder: ObservationConfig = field(
        default_factory=ObservationConfig
    )  # of images; states enter as they are
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)

    def __post_init__(self) -> None:
        for name in ("observation_horizon", "horizon", "action_horizon"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.action_horizon > self.horizon:
            raise ConfigError(
                f"action_horizon={self.action_horizon} is longer than horizon={self.horizon}: a policy cannot execute "
                f"more steps than it predicts. Set method.action_horizon<={self.horizon}"
            )


class ImitationPolicy(ABC):
    """Base of the imitation policies. A subclass builds `model` and writes `loss` and `act`.

    `model` holds the weights that act; training works on a copy of it and `model` follows as the average.
    """

    Config: ClassVar[type[ImitationConfig]]
    model: nn.ModuleDict

    def __init__(self, config: Any, contract: Contract, seed: int = 0) -> None:
        self.config = config
        self.contract = contract
        self.keys = selected_keys(config, contract)
        self.observation_horizon: int = config.observation_horizon
        self.horizon: int = config.horizon
        self.action_horizon: int = config.action_horizon
        self.action_dim = contract.action.size
        self.learner: Learner | None = None
        self.accelerator: Accelerator = LocalAccelerator()
        self.generator = torch.Generator()
        self.model = self.build(seed).requires_grad_(False).eval()
        self.bind()

    # -- what a subclass writes -----------------------------------------------------------------------------------

    @abstractmethod
    def build(self, seed: int) -> nn.ModuleDict:
        """The modules, initialised from `seed`."""

    @abstractmethod
    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss of a transformed batch and further metrics."""

    @abstractmethod
    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """Chunk [B, H, A] for `observation` {key: [B, To, ...]}."""

    def bind(self) -> None:
        """Point the attributes that `act` calls at the modules of `model`."""
        for name, module in self.model.items():
            setattr(self, name, module)

    # -- observations ---------------------------------------------------------------------------------------------

    def build_encoder(self, seed: int, steps: int | None = None) -> ObservationEncoder:
        """Observation history of `steps` (default: To) -> one vector of `condition_dim` entries."""
        shapes = {}
        for key in self.keys:
            spec = self.contract.field(key)
            # Transformed images are channels-first; the encoder is told their channels-last shape.
            image = spec.kind == "image"
            shapes[key] = (*spec.shape[1:], spec.shape[0]) if image else (spec.size,)
        with seeded(seed):
            return ObservationEncoder(self.config.encoder, shapes, steps or self.config.observation_horizon)

    def encoded(self, encoder: nn.Module, observation: Observation) -> Tensor:
        """[B, condition_dim]. Raises ConfigError for a missing key or another shape."""
        given = {}
        for key in self.keys:
            if key not in observation:
                raise ConfigError(
                    f"the observation lacks '{key}'; the policy reads: {', '.join(self.keys)}; "
                    f"given: {', '.join(observation) or '(nothing)'}"
                )
            value = observation[key]
            given[key] = (
                value.movedim(-3, -1) if self.contract.field(key).kind == "image" else value.flatten(2)
            )
        return encoder(given)

    # -- what the data must be ------------------------------------------------------------------------------------

    @classmethod
    def window(cls, config: Any, contract: Contract) -> WindowSpec:
        """The training windows."""
        return WindowSpec(config.observation_horizon, config.horizon, selected_keys(config, contract))

    @classmethod
    def transforms(cls, config: Any, contract: Contract) -> TransformGroup:
        """`config.normalization` for states and actions; images channels-first in [-1, 1]."""
        return TransformGroup.default(contract.select(selected_keys(config, contract)), config.normalization)

    # -- weights --------------------------------------------------------------------------------------------------

    def to(self, device: torch.device | str) -> ImitationPolicy:
        """Move all weights."""
        self.model.to(device)
        return self

    def policy_state(self) -> dict[str, Tensor]:
        """The weights that act, by name."""
        return dict(self.model.state_dict())

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `policy_state`. Raises ValueError naming what does not fit."""
        load_weights(self.model, state)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that act."""
        return self.model.parameters()

    # -- training -------------------------------------------------------------------------------------------------

    def begin_training(self, accelerator: Accelerator | None = None, seed: int = 0) -> None:
        """Make the trained copy, its optimiser and the noise generator, which differs between processes."""
        self.accelerator = accelerator or LocalAccelerator()
        self.to(self.accelerator.device)
        self.learner = Learner(self.model, self.config.optimizer, self.config.ema, self.accelerator)
        self.generator = torch.Generator(self.accelerator.device)
        self.generator.manual_seed(seed * 1009 + self.accelerator.rank)

    def update(self, batch: Batch, *, progress: float = 0.0) -> dict[str, Tensor | float]:
        """One gradient step; metrics "loss" and those of `loss` and `Learner.step`."""
        learner = self._learner()
        with self.accelerator.autocast():
            loss, more = self.loss(learner.online, batch, self.generator)  # type: ignore[arg-type]
        return {"loss": loss.detach(), **more, **learner.step(loss, progress)}

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor | float]:
        """The loss of the weights that act."""
        loss, more = self.loss(self.model, batch, generator)
        return {"loss": loss, **more}

    def training_state(self) -> dict[str, Any]:
        """Learner and noise generator."""
        return {"learner": self._learner().state(), "generator": self.generator.get_state()}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`, after `begin_training`."""
        self._learner().load_state(state["learner"])
        self.generator.set_state(state["generator"])

    def _learner(self) -> Learner:
        if self.learner is None:
            raise RuntimeError("call begin_training() before update() or training_state()")
        return self.learner


def selected_keys(config: Any, contract: Contract) -> tuple[str, ...]:
    """The configured observation keys, or every state key. Raises ContractError for a key that is not there."""
    keys = tuple(config.keys) or contract.state_keys
    if not keys:
        raise ContractError(
            f"the dataset has no state keys; choose its images: method.keys=[{','.join(contract.image_keys)}]"
        )
    for key in keys:
        contract.field(key)
    return keys


def masked_mean(error: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of [B, H, ...] over the entries where mask [B, H] is True; over all without a mask."""
    if mask is None:
        return error.mean()
    weight = mask.reshape(*mask.shape, *([1] * (error.dim() - mask.dim()))).to(error.dtype)
    return (error * weight).sum() / (weight.expand_as(error).sum()).clamp_min(1.0)
