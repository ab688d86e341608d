"""The temporal U-Net of Diffusion Policy and Diffuser: 1-D convolutions with FiLM conditioning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.embeddings import TimeEncoder
from diffbot.networks.registry import register
from diffbot.networks.temporal import Conv, ConvBlock, FiLMBlock, FiLMPair, Upsample


@dataclass(frozen=True)
class UNetConfig:
    down_dims: tuple[int, ...] = (
        256,
        512,
        1024,
    )  # channels per level (Diffusion Policy); Diffuser: 32, 64, 128
    kernel: int = 5  # taps of every convolution
    groups: int = 8  # groups of every group norm
    time_dim: int = 256  # width of the time embedding
    time_scale: float = 100.0  # t in [0, 1] is multiplied by this: the number of DDPM steps it stands for
    layout: str = "linear"  # "linear" ([B, T, C] matrix products, fast on CPUs) or "conv1d"; same weights


@register("unet", UNetConfig)
class UNet(Network):
    """Conditional 1-D U-Net over [B, T, C].

    All FiLM layers form one affine map of Mish(time embedding, global condition); Mish is elementwise, so the map
    splits into a time half and a condition half, which `precompute` evaluates once per chunk.
    Local conditions enter through one FiLM block added after the first and one before the last level.
    Source: Chi et al. 2023 (Diffusion Policy), Sec. 4.1; Janner et al. 2022 (Diffuser), Appendix C.
    """

    reads = frozenset({"global_", "local"})
    ranks = (2,)
    any_length = True

    def __init__(self, config: UNetConfig, sizes: Sizes):
        super().__init__(config, sizes)
        dims, kernel, groups, layout = config.down_dims, config.kernel, config.groups, config.layout
        if not dims or any(dim % groups for dim in dims):
            raise ConfigError(f"down_dims must be multiples of groups={groups}, not {dims}")
        self._check_length(sizes.length)
        self.last = layout == "linear"

        def block(inputs: int, outputs: int) -> FiLMBlock:
            return FiLMBlock(inputs, outputs, kernel, groups, layout)

        def pair(inputs: int, outputs: int) -> FiLMPair:
            return FiLMPair(block(inputs, outputs), block(outputs, outputs))

        steps = list(zip((sizes.channels, *dims[:-1]), dims, strict=True))
        self.time = TimeEncoder(config.time_dim, config.time_scale)
        self.down = nn.ModuleList(pair(inputs, outputs) for inputs, outputs in steps)
        self.downsample = nn.ModuleList(Conv(dim, dim, 3, layout, stride=2) for dim in dims[:-1])
        self.middle = pair(dims[-1], dims[-1])
        self.up = nn.ModuleList(pair(2 * outputs, inputs) for inputs, outputs in reversed(steps[1:]))
        self.upsample = nn.ModuleList(Upsample(dim, layout) for dim in reversed(dims[:-1]))
        self.head = nn.Sequential(
            ConvBlock(dims[0], dims[0], kernel, groups, layout), Conv(dims[0], sizes.channels, 1, layout)
        )
        local = [block(sizes.local_dim, dims[0]), block(sizes.local_dim, dims[0])] if sizes.local_dim else []
        self.local = nn.ModuleList(local)
        blocks = [module for module in self.modules() if isinstance(module, FiLMBlock)]
        for slot, module in enumerate(blocks):
            module.slot = slot
        self.widths = [2 * module.outputs for module in blocks]
        self.film = nn.Linear(config.time_dim + sizes.condition_dim, sum(self.widths))

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        return self.modulated(x, self._modulation(t, condition), condition.local if condition else None)

    def _modulation(self, t: Tensor, condition: Condition | None) -> Tensor:
        """All FiLM scales and biases [B, M]."""
        features = self.time(t)
        if condition is not None and condition.global_ is not None:
            features = torch.cat([features, condition.global_], dim=-1)
        return self.film(F.mish(features))

    def precompute(self, times: Tensor, condition: Condition | None) -> StepCache:
        weight, split = self.film.weight, self.config.time_dim
        time_part = F.linear(F.mish(self.time(times)), weight[:, :split], self.film.bias)
        given = condition.global_ if condition is not None else None
        condition_part = None if given is None else F.linear(F.mish(given), weight[:, split:])
        return StepCache(times, condition, time_part, condition_part)

    def step(self, x: Tensor, index: int, cache: StepCache) -> Tensor:
        return self.modulated(x, cache.modulation(index), cache.condition.local if cache.condition else None)

    def modulated(self, x: Tensor, modulation: Tensor, local: Tensor | None = None) -> Tensor:
        """The network given all FiLM scales and biases [B or 1, M]: tensors in, tensor out, for export."""
        return self._through(x, modulation, local)[0]

    def with_feature(self, x: Tensor, t: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
        """The prediction, and the innermost feature [B, T', C'] behind it, for losses on what the network represents.

        T' is T divided by 2 per level but the last, C' the last of `down_dims`. Arguments and errors as in the call.
        """
        self.check(x, condition)
        local = condition.local if condition is not None else None
        output, middle = self._through(x, self._modulation(t, condition), local)
        return output, self.enter(middle)

    def _through(self, x: Tensor, modulation: Tensor, local: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output [B, T, C] and innermost feature in the layout's order."""
        parts = modulation.split(self.widths, dim=-1)
        middle, skips = self.encode(self.enter(x), parts, local)
        return self.enter(self.head(self.decode(middle, skips, parts, local))), middle

    def encode(
        self, h: Tensor, parts: tuple[Tensor, ...], local: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The way down and the middle: the innermost feature and one skip feature per level but the first.

        Features are [B, T, C] in layout "linear" and [B, C, T] in layout "conv1d".
        """
        skips = []
        for level, pair in enumerate(self.down):
            extra = self._local(0, local, parts) if level == 0 else None
            h = pair(h, parts, extra)
            skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)
        return self.middle(h, parts), skips[1:]

    def decode(
        self, h: Tensor, skips: list[Tensor], parts: tuple[Tensor, ...], local: Tensor | None = None
    ) -> Tensor:
        """The way up from what `encode` returned, at full length and with the channels of the first level."""
        for pair, upsample, skip in zip(self.up, self.upsample, reversed(skips), strict=True):
            h = upsample(pair(torch.cat([h, skip], dim=2 if self.last else 1), parts))
        extra = self._local(1, local, parts)
        return h if extra is None else h + extra

    def _local(self, index: int, local: Tensor | None, parts: tuple[Tensor, ...]) -> Tensor | None:
        return None if local is None else self.local[index](self.enter(local), parts)

    def check(self, x: Tensor, condition: Condition | None) -> None:
        super().check(x, condition)
        self._check_length(x.shape[1])
        if condition is not None and condition.local is not None and condition.local.shape[1] != x.shape[1]:
            raise ConfigError(
                f"the local condition has {condition.local.shape[1]} steps but the trajectory {x.shape[1]}"
            )

    def _check_length(self, length: int) -> None:
        factor = 2 ** (len(self.config.down_dims) - 1)
        if length % factor or length < 1:
            below, above = max(length // factor, 1) * factor, (length // factor + 1) * factor
            nearest = below if length - below < above - length else above
            raise ConfigError(
                f"horizon {length} does not fit {len(self.config.down_dims)} U-Net levels: it must be a multiple of "
                f"{factor}. Nearest: {nearest}"
            )

    def enter(self, x: Tensor) -> Tensor:
        """Between [B, T, C] and the layout's order (its own inverse)."""
        return x if self.last else x.transpose(1, 2)
