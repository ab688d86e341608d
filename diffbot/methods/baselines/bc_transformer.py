"""Chunked BC transformer (Q17): a transformer that regresses a chunk, ACT without its variational part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.errors import ConfigError, unknown
from diffbot.methods.imitation import ImitationConfig, ImitationPolicy, masked_mean
from diffbot.methods.protocol import Observation, Prefix, blend
from diffbot.methods.registry import register
from diffbot.networks.seeding import seeded

LOSSES = ("l1", "l2")


@dataclass(frozen=True)
class BCTransformerConfig(ImitationConfig):
    """Settings of the chunked BC transformer; "paper" is ACT (Zhao et al. 2023, Tab. III)."""

    width: int = 128  # token width; paper: 512
    layers: int = 4  # decoder layers; paper: 7
    heads: int = 4  # paper: 8
    loss_norm: str = "l1"  # paper: l1 (more precise than l2)
    mask_padding: bool = True  # paper: True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss_norm not in LOSSES:
            raise unknown("loss_norm", self.loss_norm, LOSSES)
        if self.width < 1 or self.layers < 1 or self.heads < 1 or self.width % self.heads:
            raise ConfigError(
                f"width={self.width} must be a multiple of heads={self.heads}, layers={self.layers} positive"
            )


class ChunkDecoder(nn.Module):
    """H learned queries attend to each other and to one token per observation step: [B, To, D] -> [B, H, A]."""

    def __init__(self, config: BCTransformerConfig, features: int, action_dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(features, config.width)
        self.positions = nn.Parameter(0.02 * torch.randn(config.observation_horizon, config.width))
        self.queries = nn.Parameter(0.02 * torch.randn(config.horizon, config.width))
        # Dropout would draw from the global generator, so there is none.
        layer = nn.TransformerDecoderLayer(
            config.width,
            config.heads,
            4 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerDecoder(layer, config.layers, nn.LayerNorm(config.width))
        self.outer = nn.Linear(config.width, action_dim)

    def forward(self, history: Tensor) -> Tensor:
        memory = self.inner(history) + self.positions
        return self.outer(self.decoder(self.queries.expand(len(history), -1, -1), memory))


@register(
    name="bc_transformer",
    role="baseline",
    system="Q17",
    paper="Zhao et al., Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware (ACT), RSS 2023",
    config=BCTransformerConfig,
)
class BCTransformer(ImitationPolicy):
    """Regression of action chunks; temporal ensembling is the stitcher's work."""

    Config = BCTransformerConfig
    config: BCTransformerConfig

    def build(self, seed: int) -> nn.ModuleDict:
        """`encoder` and `network`."""
        encoder = self.build_encoder(seed)
        with seeded(seed + 1):
            network = ChunkDecoder(self.config, encoder.features, self.action_dim)
        return nn.ModuleDict({"encoder": encoder, "network": network})

    def predict(self, model: nn.ModuleDict, observation: Observation) -> Tensor:
        """The chunk [B, H, A] of a history."""
        history = self.encoded(model["encoder"], observation)
        return model["network"](history.unflatten(1, (self.observation_horizon, -1)))

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean absolute (or squared) error over the steps within the episode."""
        error = self.predict(model, batch.observations) - batch.actions
        error = error.abs() if self.config.loss_norm == "l1" else error.square()
        return masked_mean(error, batch.mask if self.config.mask_padding else None), {}

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """The regressed chunk [B, H, A], blended into the prefix; nothing is random."""
        return blend(self.predict(self.model, observation), prefix)
