"""What all policies share that learn actions from demonstrations: keys, windows, transforms, weights and training state."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from diffbot.data.contract import Contract
from diffbot.data.transforms import RelativeAction, Rotation, TransformGroup
from diffbot.data.transforms.base import Transform
from diffbot.data.window_spec import WindowSpec
from diffbot.errors import ConfigError, ContractError, unknown
from diffbot.methods.ema import EMAConfig
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.protocol import Observation, Prefix
from diffbot.methods.trained import TrainedMethod
from diffbot.networks.encoders import ObservationConfig, ObservationEncoder
from diffbot.networks.seeding import seeded

ACTIONS = ("recorded", "rotation_6d", "relative")


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
    # What an absolute Cartesian action is to the network: as recorded; its rotation vectors as six continuous numbers
    # (Diffusion Policy, Sec. 4.3); that, and positions relative to the gripper's newest one (Chi et al. 2024, UMI)
    actions: str = "recorded"
    encoder: ObservationConfig = field(
        default_factory=ObservationConfig
    )  # of images; states enter as they are
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)

    def __post_init__(self) -> None:
        for name in ("observation_horizon", "horizon", "action_horizon"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.actions not in ACTIONS:
            raise unknown("actions", self.actions, ACTIONS)
        if self.action_horizon > self.horizon:
            raise ConfigError(
                f"action_horizon={self.action_horizon} is longer than horizon={self.horizon}: a policy cannot execute "
                f"more steps than it predicts. Set method.action_horizon<={self.horizon}"
            )


class ImitationPolicy(TrainedMethod):
    """Base of the imitation policies. A subclass builds `model` and writes `loss` and `act`."""

    Config: ClassVar[type[ImitationConfig]]

    def __init__(self, config: Any, contract: Contract, seed: int = 0) -> None:
        self.keys = selected_keys(config, contract)
        self.observation_horizon: int = config.observation_horizon
        self.horizon: int = config.horizon
        self.action_horizon: int = config.action_horizon
        self.action_dim = contract.action.size
        super().__init__(config, contract, seed)

    @abstractmethod
    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """Chunk [B, H, A] for `observation` {key: [B, To, ...]}."""

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
        group = TransformGroup.default(contract.select(selected_keys(config, contract)), config.normalization)
        if config.actions != "recorded":
            group.transforms["action"][:0] = action_transforms(config, contract)
        return group


def action_transforms(config: Any, contract: Contract) -> list[Transform]:
    """The transforms of `config.actions`. Raises ConfigError where the actions are no absolute Cartesian poses."""
    names = contract.action.names
    turns = [i for i, name in enumerate(names) if name.endswith("_rx") and names[i + 1].endswith("_ry")]
    arms = [names[i].removesuffix("_rx") for i in turns]
    if contract.action.meaning != "absolute" or not turns:
        raise ConfigError(
            f"method.actions={config.actions} needs absolute Cartesian poses (x, y, z, rx, ry, rz), this dataset's actions are "
            f"{contract.action.meaning}: {', '.join(names) or 'without names'}. Record with +env.action_mode=absolute, or "
            "set method.actions=recorded"
        )
    found: list[Transform] = []
    if config.actions == "relative":
        found += [
            RelativeAction(
                f"{arm}_eef_pos", (turn - 3, turn - 2, turn - 1), (0, 1, 2), config.observation_horizon
            )
            for arm, turn in zip(arms, turns, strict=True)
        ]
    # A rotation before it has grown by three numbers.
    return found + [Rotation(turn + 3 * i, "axis_angle", "rotation_6d") for i, turn in enumerate(turns)]


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
