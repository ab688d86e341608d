"""Decoders: from a feature of a denoiser back to the observations it was conditioned on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.errors import ConfigError


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the state decoder (Crossway Diffusion: 2, (256, 128), 64, whole images)."""

    grid: int = 2  # the feature of an observation step is laid out as grid x grid positions
    channels: tuple[int, ...] = (64, 32)  # of the stages between; each doubles the resolution
    position_dim: int = 32  # channels of the position embedding that every stage gets
    image_size: int = 32  # images are reconstructed at this many pixels a side


class StateDecoder(nn.Module):
    """Feature [B, C] of To observation steps -> {key: [B, To, ...]}, channels-first images and state vectors.

    The channels are split among the observation steps. For an image, a step's share is laid out on a small grid, tiled, and
    raised by residual stages that also see where each pixel is; for a state it passes a small MLP.

    shapes: per key, (D,) for states and (channels, H, W) for images, which come out at `image_size`.
    Raises ConfigError where the channels do not divide, or the image size by the stages.
    Source: Li et al. 2023 (Crossway Diffusion), Sec. III-B, "state decoder" and "intersection transformation".
    """

    def __init__(self, config: DecoderConfig, width: int, shapes: Mapping[str, tuple[int, ...]], steps: int):
        super().__init__()
        share = width // steps
        if width % steps or share % config.grid**2:
            raise ConfigError(
                f"a feature of {width} channels cannot be split among {steps} observation steps and "
                f"{config.grid}x{config.grid} positions: choose the last of down_dims as a multiple of "
                f"{steps * config.grid**2}"
            )
        scale = 2 ** len(config.channels)
        if config.image_size % scale or config.image_size < scale:
            raise ConfigError(
                f"image_size={config.image_size} of the decoder must be a multiple of {scale}: its "
                f"{len(config.channels)} stages double the resolution"
            )
        self.config, self.steps = config, steps
        self.start = config.image_size // scale
        decoders: dict[str, nn.Module] = {}
        for key, shape in sorted(shapes.items()):
            if len(shape) == 3:
                decoders[key] = ImageDecoder(config, share // config.grid**2, shape[0], self.start)
            else:
                size = math.prod(shape)
                decoders[key] = nn.Sequential(
                    nn.Linear(share, 4 * size), nn.Mish(), nn.Linear(4 * size, 2 * size), nn.Mish(), nn.Linear(2 * size, size)
                )  # fmt: skip
        self.decoders = nn.ModuleDict(decoders)

    def forward(self, feature: Tensor) -> dict[str, Tensor]:
        batch, grid = len(feature), self.config.grid
        each = feature.reshape(batch * self.steps, -1)
        tiles = math.ceil(self.start / grid)
        image = each.unflatten(1, (-1, grid, grid)).repeat(1, 1, tiles, tiles)[
            ..., : self.start, : self.start
        ]
        return {
            key: decoder(image if isinstance(decoder, ImageDecoder) else each).unflatten(
                0, (batch, self.steps)
            )
            for key, decoder in self.decoders.items()
        }

    def target(self, key: str, observation: Tensor) -> Tensor:
        """What `key` is compared with: a state [B, To, D] as it is, an image [B, To, C, H, W] at the decoder's size."""
        if not isinstance(self.decoders[key], ImageDecoder):
            return observation.flatten(2)
        size = (self.config.image_size, self.config.image_size)
        return F.adaptive_avg_pool2d(observation.flatten(0, 1), size).unflatten(0, observation.shape[:2])


class ImageDecoder(nn.Module):
    """[B, inputs, h, w] -> [B, channels, 2^n h, 2^n w] by n residual stages with position embeddings."""

    def __init__(self, config: DecoderConfig, inputs: int, channels: int, start: int):
        super().__init__()
        stages, before = [], inputs
        for index, width in enumerate(config.channels):
            stages.append(ResidualStage(before + config.position_dim, width))
            self.register_buffer(
                f"positions{index}",
                position_embedding(start * 2**index, config.position_dim),
                persistent=False,
            )
            before = width
        self.stages = nn.ModuleList(stages)
        self.outer = nn.Conv2d(before, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for index, stage in enumerate(self.stages):
            positions: Tensor = getattr(self, f"positions{index}")
            x = stage(torch.cat([x, positions.expand(len(x), -1, -1, -1)], dim=1))
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.outer(x)


class ResidualStage(nn.Module):
    """Two 3x3 convolutions with group norm and Mish, and a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        groups = math.gcd(8, outputs)
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(groups, outputs), nn.Mish(),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.GroupNorm(groups, outputs), nn.Mish(),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


def position_embedding(side: int, dim: int) -> Tensor:
    """sin and cos of pi 2^i times row and column in [-1, 1], i = 0 ... dim/4 - 1: [dim, side, side]."""
    if dim % 4:
        raise ConfigError(f"position_dim must be a multiple of 4, got {dim}")
    axis = torch.linspace(-1.0, 1.0, side)
    phases = torch.pi * 2.0 ** torch.arange(dim // 4)[:, None] * axis
    rows, columns = phases[:, :, None].expand(-1, -1, side), phases[:, None, :].expand(-1, side, -1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()])
