"""Crossway Diffusion (P7): Diffusion Policy whose denoiser must also be able to draw what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.diffusion.losses import diffusion_loss
from diffbot.errors import ConfigError
from diffbot.methods.learner import load_weights
from diffbot.methods.policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from diffbot.methods.protocol import Accelerator
from diffbot.methods.registry import register
from diffbot.networks import Condition
from diffbot.networks.decoders import DecoderConfig, StateDecoder
from diffbot.networks.seeding import seeded
from diffbot.networks.unet import UNet

DECODER = "decoder"


@dataclass(frozen=True)
class CrosswayConfig(DiffusionPolicyConfig):
    """Settings of Crossway Diffusion; those of Diffusion Policy and the reconstruction."""

    network: str = "unet"  # the reconstruction starts inside the U-Net; paper: unet (512, 1024, 2048)
    reconstruction: float = 0.1  # weight of each observation's reconstruction error; paper: 0.1
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network != "unet":
            raise ConfigError(f"crossway_diffusion needs method.network=unet, got '{self.network}'")
        if self.reconstruction < 0:
            raise ConfigError(f"reconstruction must not be negative, got {self.reconstruction}")


@register(
    name="crossway_diffusion",
    role="policy",
    system="P7",
    paper="Li et al., Crossway Diffusion, ICRA 2024",
    config=CrosswayConfig,
)
class CrosswayDiffusion(DiffusionPolicy):
    """Adds the error of reconstructing the observations from the U-Net's innermost feature to the denoising loss.

    The feature at the first of its steps is split among the observation steps and decoded into images and states
    (Li et al. 2023, Sec. III-B). The decoder lives while training: the weights that act are those of Diffusion Policy.
    """

    Config = CrosswayConfig
    config: CrosswayConfig

    def begin_training(self, accelerator: Accelerator | None = None, seed: int = 0) -> None:
        """As every imitation policy, with a decoder beside the modules that act."""
        shapes = {key: self.contract.field(key).shape for key in self.keys}
        with seeded(seed + 2):
            decoder = StateDecoder(
                self.config.decoder, self._network().config.down_dims[-1], shapes, self.observation_horizon
            )
        self.model[DECODER] = decoder
        super().begin_training(accelerator, seed)

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising loss plus `reconstruction` times the mean squared error of each observation."""
        network, decoder = model["network"], model[DECODER]
        assert isinstance(network, UNet) and isinstance(decoder, StateDecoder)
        condition = Condition(global_=self.encoded(model["encoder"], batch.observations))
        inside: list[Tensor] = []

        def denoise(x: Tensor, t: Tensor, given: Condition) -> Tensor:
            output, feature = network.with_feature(x, t, given)
            inside.append(feature[:, 0])
            return output

        denoising = diffusion_loss(
            denoise,
            self.schedule,
            self.prediction,
            batch.actions,
            condition,
            weighting=self.config.weighting,
            mask=batch.mask[..., None] if self.config.mask_padding else None,
            generator=generator,
        )
        drawn = decoder(inside[0])
        errors = {
            key: (drawn[key].float() - decoder.target(key, batch.observations[key])).square().mean()
            for key in self.keys
        }
        reconstruction = torch.stack(list(errors.values())).sum()
        metrics = {"denoising": denoising.detach(), "reconstruction": reconstruction.detach()}
        return denoising + self.config.reconstruction * reconstruction, metrics

    def policy_state(self) -> dict[str, Tensor]:
        """The weights that act, as Diffusion Policy names them: without the decoder."""
        return dict(self._acting().state_dict())

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `policy_state`."""
        load_weights(self._acting(), state)

    def _acting(self) -> nn.ModuleDict:
        return nn.ModuleDict({name: module for name, module in self.model.items() if name != DECODER})

    def _network(self) -> UNet:
        network = self.model["network"]
        assert isinstance(network, UNet)
        return network
