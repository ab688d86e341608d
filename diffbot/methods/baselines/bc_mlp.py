"""BC-MLP (Q17): behaviour cloning by regression. The mean action, also where demonstrations go two ways."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.errors import ConfigError
from diffbot.methods.imitation import ImitationConfig, ImitationPolicy, masked_mean
from diffbot.methods.protocol import Observation, Prefix, blend
from diffbot.methods.registry import register
from diffbot.networks.seeding import seeded


@dataclass(frozen=True)
class BCMLPConfig(ImitationConfig):
    """Settings of BC-MLP; "paper" is robomimic's BC (Mandlekar et al. 2021, App. D)."""

    observation_horizon: int = 1  # paper: 1
    horizon: int = 1  # paper: 1; above 1 it regresses a chunk
    action_horizon: int = 1
    width: int = 1024  # units per layer; paper: 1024
    depth: int = 2  # hidden layers; paper: 2
    mask_padding: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.depth < 1:
            raise ConfigError(f"width and depth must be at least 1, got {self.width}, {self.depth}")


@register(
    name="bc_mlp",
    role="baseline",
    system="Q17",
    paper="Mandlekar et al., What Matters in Learning from Offline Human Demonstrations, CoRL 2021",
    config=BCMLPConfig,
)
class BCMLP(ImitationPolicy):
    """Mean squared error of an MLP's action chunk."""

    Config = BCMLPConfig
    config: BCMLPConfig
    encoder: nn.Module
    network: nn.Module

    def build(self, seed: int) -> nn.ModuleDict:
        """`encoder` and `network`."""
        encoder = self.build_encoder(seed)
        with seeded(seed + 1):
            network = mlp(
                encoder.condition_dim, self.config.width, self.config.depth, self.horizon * self.action_dim
            )
        return nn.ModuleDict({"encoder": encoder, "network": network})

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error over the steps within the episode."""
        predicted = model["network"](self.encoded(model["encoder"], batch.observations)).view_as(
            batch.actions
        )
        mask = batch.mask if self.config.mask_padding else None
        return masked_mean((predicted - batch.actions).square(), mask), {}

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """The regressed chunk [B, H, A], blended into the prefix; nothing is random."""
        features = self.encoded(self.encoder, observation)
        actions = self.network(features).view(len(features), self.horizon, self.action_dim)
        return blend(actions, prefix)


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """`depth` hidden layers of `width` units with ReLU."""
    sizes = [inputs] + [width] * depth
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
