"""An observation history as one condition vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError, unknown
from diffbot.networks.encoders.resnet import ResNetConfig, ResNetEncoder
from diffbot.networks.encoders.vit import ViT, ViTConfig
from diffbot.networks.seeding import SeededCrop

IMAGE_ENCODERS = ("resnet18", "vit")


@dataclass(frozen=True)
class ObservationConfig:
    image_encoder: str = "resnet18"  # "resnet18" or "vit"
    crop: float = (
        0.9  # side of the random (training) or central (acting) crop, as a share of the image; 1: none
    )
    # States enter as x and as sin and cos of 2^i pi x, i < frequencies: small networks learn steep feedback much sooner.
    frequencies: int = 0
    share: bool = False  # one image encoder for all cameras (paper: False)
    resnet: ResNetConfig = field(default_factory=ResNetConfig)  # options of "resnet18"
    vit: ViTConfig = field(default_factory=ViTConfig)  # options of "vit"


class ObservationEncoder(nn.Module):
    """{key: [B, To, ...]} -> [B, To * features]: states as they are, images through an encoder per camera.

    shapes: per key, (D,) for states and (H, W, C) for images; images are floats in channels-last order.
    Raises ConfigError for a missing key or a shape other than the one built for.
    Source: Chi et al. 2023 (Diffusion Policy), Sec. 4.2.
    """

    def __init__(
        self, config: ObservationConfig, shapes: Mapping[str, tuple[int, ...]], observation_horizon: int
    ):
        super().__init__()
        if config.image_encoder not in IMAGE_ENCODERS:
            raise unknown("image encoder", config.image_encoder, IMAGE_ENCODERS)
        if config.frequencies < 0:
            raise ConfigError(f"frequencies must not be negative, got {config.frequencies}")
        self.shapes = {key: tuple(shapes[key]) for key in sorted(shapes)}
        self.observation_horizon = observation_horizon
        images = {key: shape for key, shape in self.shapes.items() if len(shape) == 3}
        if config.share and len(set(images.values())) > 1:
            raise ConfigError(f"cameras that share an encoder need one image shape, not {images}")
        self.crop = SeededCrop(config.crop)
        self.owner = {key: next(iter(images)) if config.share else key for key in images}
        self.images = nn.ModuleDict(
            {key: _image_encoder(config, images[key]) for key in dict.fromkeys(self.owner.values())}
        )
        states = sum(torch.Size(shape).numel() for key, shape in self.shapes.items() if key not in images)
        self.frequencies = config.frequencies
        self.features = states * (1 + 2 * config.frequencies) + sum(
            _width(self.images[self.owner[key]]) for key in images
        )
        self.condition_dim = observation_horizon * self.features

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        features = []
        for key, shape in self.shapes.items():
            if key not in observation:
                raise ConfigError(f"observation '{key}' is missing; given: {', '.join(sorted(observation))}")
            value = observation[key]
            if value.shape[1:] != (self.observation_horizon, *shape):
                expected = (self.observation_horizon, *shape)
                raise ConfigError(f"observation '{key}' must be [B, {expected}], not {list(value.shape)}")
            if key in self.owner:
                pixels = self.crop(value.flatten(0, 1).movedim(-1, 1))
                features.append(self.images[self.owner[key]](pixels).unflatten(0, value.shape[:2]))
            else:
                features.append(fourier_features(value.flatten(2), self.frequencies))
        return torch.cat(features, dim=-1).flatten(1)


def fourier_features(x: Tensor, frequencies: int) -> Tensor:
    """[..., D] -> [..., D (1 + 2 frequencies)]: x, sin and cos of 2^i pi x. Source: Tancik et al. 2020, Sec. 6.1."""
    if not frequencies:
        return x
    scales = torch.pi * 2.0 ** torch.arange(frequencies, device=x.device, dtype=x.dtype)
    angles = (x[..., None] * scales).flatten(-2)
    return torch.cat([x, angles.sin(), angles.cos()], dim=-1)


def _image_encoder(config: ObservationConfig, shape: tuple[int, ...]) -> nn.Module:
    height, width, channels = shape
    if config.image_encoder == "resnet18":
        return ResNetEncoder(config.resnet, channels)
    side = SeededCrop(config.crop)
    return ViT(config.vit, (side.size(height), side.size(width)), channels)


def _width(encoder: nn.Module) -> int:
    assert isinstance(encoder, ResNetEncoder | ViT)
    return encoder.features
