"""BC-GMM (Q17): behaviour cloning by the likelihood of a mixture of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.errors import ConfigError
from diffbot.methods.baselines.bc_mlp import BCMLPConfig, mlp
from diffbot.methods.imitation import ImitationPolicy
from diffbot.methods.mixture import MixtureHead
from diffbot.methods.protocol import Observation, Prefix, blend
from diffbot.methods.registry import register
from diffbot.networks.seeding import seeded


@dataclass(frozen=True)
class BCGMMConfig(BCMLPConfig):
    """Settings of BC-GMM; "paper" is robomimic (Mandlekar et al. 2021, App. D)."""

    modes: int = 5  # paper: 5
    min_std: float = 1e-2  # smallest standard deviation in normalised units; paper: 1e-4
    sampling_noise: float = (
        0.0  # times the standard deviation, when acting; paper: nearly 0 ("low-noise evaluation")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modes < 1 or not self.min_std > 0 or self.sampling_noise < 0:
            raise ConfigError(
                "a mixture needs modes >= 1, min_std > 0 and sampling_noise >= 0, got "
                f"{self.modes}, {self.min_std}, {self.sampling_noise}"
            )


@register(
    name="bc_gmm",
    role="baseline",
    system="Q17",
    paper="Mandlekar et al., What Matters in Learning from Offline Human Demonstrations, CoRL 2021",
    config=BCGMMConfig,
)
class BCGMM(ImitationPolicy):
    """One mixture over the whole chunk, so that its steps belong to one mode."""

    Config = BCGMMConfig
    config: BCGMMConfig
    encoder: nn.Module
    network: nn.Module
    head: nn.Module

    def build(self, seed: int) -> nn.ModuleDict:
        """`encoder`, `network` and mixture `head`."""
        config = self.config
        encoder = self.build_encoder(seed)
        with seeded(seed + 1):
            network = nn.Sequential(
                mlp(encoder.condition_dim, config.width, config.depth - 1, config.width), nn.ReLU()
            )
            head = MixtureHead(config.width, self.horizon * self.action_dim, config.modes, config.min_std)
        return nn.ModuleDict({"encoder": encoder, "network": network, "head": head})

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood per number of the chunk."""
        features = model["network"](self.encoded(model["encoder"], batch.observations))
        likelihood = model["head"](features).log_likelihood(batch.actions.flatten(1))
        return -likelihood.mean() / (self.horizon * self.action_dim), {}

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """A mode drawn by its weight, as a chunk [B, H, A], blended into the prefix."""
        features = self.network(self.encoded(self.encoder, observation))
        actions = self.head(features).sample(self.config.sampling_noise, generator)
        return blend(actions.view(-1, self.horizon, self.action_dim), prefix)
