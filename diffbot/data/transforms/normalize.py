"""Normalisation of vectors, dimension by dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diffbot.data.transforms.base import Transform, transform, warn_constant
from diffbot.errors import ConfigError, DataError


class _Affine(Transform):
    """y = (x - offset) / scale with float32 offset and scale of one step's shape.

    A dimension with no more spread than `tolerance` (in its own unit) is constant: it gets scale 1 and the constant as
    offset, so it maps to 0 in the data, stays exactly invertible, and is named in a warning.
    """

    statistic_names: ClassVar[tuple[str, ...]] = ("offset", "scale")
    tolerance: float
    _offset: Tensor | None = None
    _scale: Tensor | None = None

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        offset, scale = self._values(x)
        return (x.to(offset.dtype) - offset) / scale

    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        offset, scale = self._values(y)
        return y * scale + offset

    def fit(self, data: Tensor, key: str = "") -> None:
        if len(data) == 0 or not torch.isfinite(data).all():
            raise DataError(f"'{key}' has no steps or holds NaN or infinite values. See: diffbot data check")
        data = data.to(torch.float64)
        centre, half_width, spread = self._fit(data)
        constant = spread <= self.tolerance
        warn_constant(key, constant, self.name)
        self._offset = torch.where(constant, data.mean(0), centre).to(torch.float32)
        self._scale = torch.where(constant, 1.0, half_width).to(torch.float32)

    def _fit(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Offset, scale and spread of each dimension of data [N, ...]."""
        raise NotImplementedError

    def load_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        super().load_statistics(statistics)
        if not (statistics["scale"] > 0).all():
            raise DataError(f"statistic 'scale' of '{self.name}' must be positive")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self._offset is not None and tuple(self._offset.shape) != tuple(shape):
            raise DataError(
                f"'{self.name}' has statistics of shape {tuple(self._offset.shape)} for values {shape}"
            )
        return shape

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values = self.statistics()
        offset, scale = values["offset"], values["scale"]
        if x.shape[x.ndim - offset.ndim :] != offset.shape:
            raise DataError(
                f"'{self.name}' has statistics of shape {tuple(offset.shape)} for values {tuple(x.shape)}"
            )
        if offset.device != x.device:
            self._offset, self._scale = offset, scale = offset.to(x.device), scale.to(x.device)
        return offset, scale


@transform
@dataclass(eq=False)
class MinMax(_Affine):
    """Smallest value of the data to -1, largest to 1. The spread is largest - smallest."""

    name: ClassVar[str] = "min_max"
    tolerance: float = 1e-4

    def _fit(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = data.amin(0), data.amax(0)
        return (high + low) / 2, (high - low) / 2, high - low


@transform
@dataclass(eq=False)
class MeanStd(_Affine):
    """Mean 0 and standard deviation 1 (of the population). The spread is the standard deviation."""

    name: ClassVar[str] = "mean_std"
    tolerance: float = 1e-4

    def _fit(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        std = data.std(0, correction=0)
        return data.mean(0), std, std


@transform
@dataclass(eq=False)
class Quantile(_Affine):
    """The `low` quantile to -1, the `high` one to 1; values beyond them reach past ±1 and are not clipped.

    The spread is the distance of the two quantiles, so a dimension that moves only in rare outliers is constant.
    """

    name: ClassVar[str] = "quantile"
    low: float = 0.01
    high: float = 0.99
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ConfigError(f"quantiles need 0 <= low < high <= 1, got {self.low} and {self.high}")

    def _fit(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ordered = data.sort(0).values  # torch.quantile refuses more than 16 million values
        low, high = (_interpolate(ordered, q) for q in (self.low, self.high))
        return (high + low) / 2, (high - low) / 2, high - low


@transform
@dataclass(eq=False)
class Identity(Transform):
    """Leaves values as they are, as float32."""

    name: ClassVar[str] = "identity"

    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return x.to(torch.float32)

    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        return y


def _interpolate(ordered: Tensor, q: float) -> Tensor:
    """The quantile q of sorted data [N, ...], linear between neighbours."""
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
