"""One transform: a forward/inverse pair, with statistics where it has any."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffbot.errors import DataError, unknown


class ConstantDimensionWarning(UserWarning):
    """A dimension has no spread, so its normalisation only subtracts the constant."""


class Transform(ABC):
    """Maps values [..., *shape] of one key. Subclasses are dataclasses whose fields make up `spec`.

    `needs`: keys of raw values that `forward` and `inverse` also look at, handed over as `context`.
    """

    name: ClassVar[str]
    statistic_names: ClassVar[tuple[str, ...]] = ()
    random: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys that must be in the context."""
        return ()

    @abstractmethod
    def forward(
        self, x: Tensor, context: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Raw to transformed. `generator` switches random augmentation on."""

    @abstractmethod
    def inverse(self, y: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Transformed to raw."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one transformed step, given that of a raw one. Raises DataError when it does not fit."""
        return shape

    def fit(self, data: Tensor, key: str = "") -> None:  # noqa: B027 (most transforms have no statistics)
        """Take the statistics from data [N, *shape]. Does nothing where there are none."""

    def spec(self) -> dict[str, Any]:
        """Plain dictionary from which `build` makes the same transform, without statistics."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]

    def statistics(self) -> dict[str, Tensor]:
        """The statistics by name. DataError before `fit`."""
        missing = [n for n in self.statistic_names if getattr(self, f"_{n}", None) is None]
        if missing:
            raise DataError(
                f"transform '{self.name}' has no {', '.join(missing)}: fit it, or load its statistics"
            )
        return {n: getattr(self, f"_{n}") for n in self.statistic_names}

    def load_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Set the statistics. DataError when a name is missing, unknown, not finite, or shapes differ."""
        if set(statistics) != set(self.statistic_names):
            raise DataError(
                f"transform '{self.name}' needs the statistics {list(self.statistic_names)}, got {sorted(statistics)}"
            )
        if len({tuple(v.shape) for v in statistics.values()}) > 1:
            raise DataError(f"statistics of '{self.name}' differ in shape")
        for name, value in statistics.items():
            if not torch.isfinite(value).all():
                raise DataError(f"statistic '{name}' of '{self.name}' is not finite")
            setattr(self, f"_{name}", value.to(torch.float32).clone())


TRANSFORMS: dict[str, type[Transform]] = {}


def transform(cls: type[Transform]) -> type[Transform]:
    """Make a transform known by its name."""
    TRANSFORMS[cls.name] = cls
    return cls


def build(spec: Mapping[str, Any]) -> Transform:
    """The transform that `spec` describes. Raises an error that lists the known names or fields."""
    options = dict(spec)
    name = str(options.pop("name", ""))
    if name not in TRANSFORMS:
        raise unknown("transform", name, TRANSFORMS)
    try:
        return TRANSFORMS[name](**options)
    except TypeError as error:
        raise DataError(f"transform '{name}' does not take {options}: {error}") from error


def warn_constant(key: str, dimensions: Tensor, kind: str) -> None:
    """Say which dimensions have no spread."""
    where = torch.nonzero(dimensions).flatten().tolist()
    if where:
        warnings.warn(
            f"'{key}': dimensions {where} are constant in the data; {kind} only subtracts the constant there",
            ConstantDimensionWarning,
            stacklevel=4,
        )
