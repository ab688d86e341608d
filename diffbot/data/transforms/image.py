"""Images: from uint8 height-width-channel to float channel-height-width, cropped and jittered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diffbot.data.transforms.base import Transform, transform
from diffbot.errors import ConfigError, DataError


@transform
@dataclass(eq=False)
class ImageScale(Transform):
    """uint8 [..., H, W, C] in 0..255 to float32 [..., C, H, W] in [-1, 1]. The inverse rounds and clamps."""

    name: ClassVar[str] = "image_scale"

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if x.dtype != torch.uint8:
            raise DataError(f"image_scale takes uint8 images, got {x.dtype}")
        return x.movedim(-1, -3).to(torch.float32) / 127.5 - 1.0

    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        return ((y + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise DataError(f"image_scale takes images (height, width, channels), got {shape}")
        return (shape[2], shape[0], shape[1])


@dataclass(eq=False)
class _Crop(Transform):
    """Cuts [..., C, H, W] to height x width pixels. It loses pixels, so `inverse` raises."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"a crop needs a positive height and width, got {self.height} x {self.width}")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[1] < self.height or shape[2] < self.width:
            raise DataError(
                f"cannot cut {self.height} x {self.width} pixels from (channels, height, width) {shape}"
            )
        return (shape[0], self.height, self.width)

    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        raise DataError(f"'{self.name}' loses pixels and has no inverse")

    def _centre(self, x: Tensor) -> Tensor:
        self.output_shape(tuple(x.shape[-3:]))
        top, left = (x.shape[-2] - self.height) // 2, (x.shape[-1] - self.width) // 2
        return x[..., top : top + self.height, left : left + self.width]


@transform
@dataclass(eq=False)
class CentreCrop(_Crop):
    """The middle of the image, always."""

    name: ClassVar[str] = "centre_crop"

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._centre(x)


@transform
@dataclass(eq=False)
class RandomCrop(_Crop):
    """With a generator: one uniformly drawn place for each sample of the first axis, the same for all of its frames.

    Without a generator (evaluation): the centre.
    """

    name: ClassVar[str] = "random_crop"
    random: ClassVar[bool] = True

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if generator is None:
            return self._centre(x)
        if x.ndim < 4:
            raise DataError(
                f"random_crop needs a batch axis before (channels, height, width), got {tuple(x.shape)}"
            )
        self.output_shape(tuple(x.shape[-3:]))
        count, device = len(x), x.device
        rows = _places(count, x.shape[-2] - self.height, self.height, generator, device)
        columns = _places(count, x.shape[-1] - self.width, self.width, generator, device)
        flat = x.reshape(count, -1, x.shape[-2], x.shape[-1])
        batch = torch.arange(count, device=device)[:, None, None]
        cut = flat.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]]
        return cut.movedim(-1, 1).reshape(*x.shape[:-2], self.height, self.width)


@transform
@dataclass(eq=False)
class ColorJitter(Transform):
    """With a generator: brightness, contrast and saturation of images in [-1, 1], each scaled by a factor drawn from
    [1 - strength, 1 + strength], one draw for each sample of the first axis; clamped to [-1, 1]. Else unchanged.
    """

    name: ClassVar[str] = "color_jitter"
    random: ClassVar[bool] = True
    brightness: float = 0.3
    contrast: float = 0.4
    saturation: float = 0.5

    def __post_init__(self) -> None:
        for strength in (self.brightness, self.contrast, self.saturation):
            if not 0 <= strength <= 1:
                raise ConfigError(f"jitter strengths must be in [0, 1], got {strength}")

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if generator is None:
            return x
        if x.ndim < 4 or x.shape[-3] != 3:
            raise DataError(f"color_jitter needs [batch, ..., 3, height, width], got {tuple(x.shape)}")
        lead = (len(x), *(1,) * (x.ndim - 1))
        drawn = torch.rand(3, len(x), generator=generator, device=generator.device).to(x.device) * 2 - 1
        brightness, contrast, saturation = (
            1 + strength * d.view(lead)
            for strength, d in zip((self.brightness, self.contrast, self.saturation), drawn, strict=True)
        )
        image = (x + 1) * brightness
        grey = _grey(image)
        image = (image - grey.mean((-2, -1), keepdim=True)) * contrast + grey.mean((-2, -1), keepdim=True)
        grey = _grey(image)
        return ((image - grey) * saturation + grey - 1).clamp(-1, 1)

    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        raise DataError("'color_jitter' clamps colours and has no inverse")


def _grey(image: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, [..., 1, H, W]."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=image.device, dtype=image.dtype).view(3, 1, 1)
    return (image * weights).sum(-3, keepdim=True)


def _places(count: int, room: int, length: int, generator: torch.Generator, device: torch.device) -> Tensor:
    start = torch.randint(room + 1, (count, 1), generator=generator, device=generator.device).to(device)
    return start + torch.arange(length, device=device)
