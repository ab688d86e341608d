"""ResNet-18 with group norm instead of batch norm, so that EMA weights and single observations work."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.networks.encoders.spatial_softmax import SpatialSoftmax


@dataclass(frozen=True)
class ResNetConfig:
    base: int = 64  # channels of the first stage (ResNet-18: 64); later stages double it
    channels_per_group: int = 16  # group norm (Diffusion Policy: 16)
    keypoints: int = 32  # spatial softmax keypoints (Diffusion Policy, robomimic: 32)
    features: int = 64  # width of the output vector


def norm(channels: int, channels_per_group: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(channels // channels_per_group, 1), channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. Source: He et al. 2016, Fig. 2."""

    def __init__(self, inputs: int, outputs: int, stride: int, per_group: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = norm(outputs, per_group)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs, per_group)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs, per_group)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class ResNet18(nn.Sequential):
    """Images [B, channels, H, W] -> features [B, 8 * base, ~H / 32, ~W / 32]. Source: He et al. 2016, Table 1."""

    def __init__(self, config: ResNetConfig, channels: int = 3):
        base, per_group = config.base, config.channels_per_group
        widths = [base, base, 2 * base, 4 * base, 8 * base]
        blocks: list[nn.Module] = []
        for stage, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            stride = 1 if stage == 0 else 2
            blocks += [
                BasicBlock(inputs, outputs, stride, per_group),
                BasicBlock(outputs, outputs, 1, per_group),
            ]
        super().__init__(
            nn.Conv2d(channels, base, 7, stride=2, padding=3, bias=False),
            norm(base, per_group),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            *blocks,
        )
        self.outputs = widths[-1]


class ResNetEncoder(nn.Module):
    """ResNet-18, spatial softmax, linear: images [B, channels, H, W] -> [B, features].

    Source: Chi et al. 2023 (Diffusion Policy), Sec. 4.2.
    """

    def __init__(self, config: ResNetConfig, channels: int = 3):
        super().__init__()
        self.features = config.features
        self.trunk = ResNet18(config, channels)
        self.keypoints = SpatialSoftmax(self.trunk.outputs, config.keypoints)
        self.outer = nn.Linear(2 * config.keypoints, config.features)

    def forward(self, images: Tensor) -> Tensor:
        return self.outer(self.keypoints(self.trunk(images)).flatten(1))
