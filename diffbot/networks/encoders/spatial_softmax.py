"""Expected image coordinates of learned feature maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError


class SpatialSoftmax(nn.Module):
    """Keypoints: [B, C, H, W] -> [B, keypoints, 2], (x, y) in [-1, 1] from left to right and top to bottom.

    Raises ConfigError for a map that is one position high or wide: its keypoints would be constant.
    Source: Levine et al. 2016 (End-to-End Training of Deep Visuomotor Policies), Sec. 5.1; Finn et al. 2016.
    """

    def __init__(self, channels: int, keypoints: int = 32):
        super().__init__()
        self.maps = nn.Conv2d(channels, keypoints, kernel_size=1)
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        maps = self.maps(features)
        height, width = maps.shape[-2:]
        if min(height, width) < 2:
            raise ConfigError(
                f"spatial softmax needs at least 2x2 positions, not a feature map of {height}x{width}: use larger "
                "images (more than 32 pixels a side for ResNet-18) or the image encoder 'vit'"
            )
        weights = (
            (maps.flatten(2) * torch.exp(-self.log_temperature))
            .softmax(dim=-1)
            .unflatten(-1, (height, width))
        )
        x = weights.sum(dim=-2) @ torch.linspace(-1.0, 1.0, width, device=maps.device, dtype=maps.dtype)
        y = weights.sum(dim=-1) @ torch.linspace(-1.0, 1.0, height, device=maps.device, dtype=maps.dtype)
        return torch.stack([x, y], dim=-1)
