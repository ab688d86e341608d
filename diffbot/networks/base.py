"""The one call that all denoisers share, and the hooks that a fast sampler uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.networks.condition import Condition


@dataclass(frozen=True)
class Sizes:
    """What a network is built for: the data it denoises and the condition it reads.

    data_shape: (T, C) for trajectories, (C,) for single vectors, (N, T, C) for N agents.
    condition_dim, local_dim, token_dim: widths of Condition.global_, .local and .tokens; 0 means absent.
    """

    data_shape: tuple[int, ...]
    condition_dim: int = 0
    local_dim: int = 0
    token_dim: int = 0

    @property
    def channels(self) -> int:
        return self.data_shape[-1]

    @property
    def length(self) -> int:
        """Steps of the trajectory; 1 for single vectors."""
        return self.data_shape[-2] if len(self.data_shape) > 1 else 1

    @property
    def numel(self) -> int:
        return int(torch.Size(self.data_shape).numel())


@dataclass(frozen=True)
class StepCache:
    """What `Network.precompute` keeps for the steps of one chunk.

    times: [S]. condition: as given. time_part: [S, M] and condition_part: [B, M] or None, the halves of
    the first affine map that is applied to the pair (time, condition); both None where a network has none.
    """

    times: Tensor
    condition: Condition | None
    time_part: Tensor | None = None
    condition_part: Tensor | None = None

    def modulation(self, index: int) -> Tensor:
        """The sum of both halves at step `index`: [B, M], or [1, M] without a condition."""
        if self.time_part is None:
            raise ConfigError("this network does not split time from condition: call step()")
        row = self.time_part[index : index + 1]
        return row if self.condition_part is None else row + self.condition_part


class Network(nn.Module):
    """A denoiser: `net(x, t, condition)` has the shape of x.

    Subclasses define a frozen `Config`, register a name, and write `predict`. They state which parts of a
    condition they read (`reads`) and whether T may differ from the length they were built for.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    reads: ClassVar[frozenset[str]] = frozenset({"global_"})
    ranks: ClassVar[tuple[int, ...]] = (1, 2)  # accepted len(data_shape)
    any_length: ClassVar[bool] = False

    def __init__(self, config: Any, sizes: Sizes):
        super().__init__()
        self.config = config
        self.sizes = sizes
        if len(sizes.data_shape) not in self.ranks or min(sizes.data_shape) < 1:
            shapes = {1: "(C,)", 2: "(T, C)", 3: "(N, T, C)"}
            valid = " or ".join(shapes[rank] for rank in self.ranks)
            raise ConfigError(f"network '{self.name}' denoises data of shape {valid}, not {sizes.data_shape}")
        for part, width in self._widths().items():
            if width and part not in self.reads:
                raise ConfigError(
                    f"network '{self.name}' does not read condition part '{part}' (width {width}); "
                    f"it reads: {', '.join(sorted(self.reads)) or 'none'}"
                )

    def forward(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """x: [B, *data_shape]; t: [B] or scalar in [0, 1] (1 is pure noise). Returns the shape of x.

        Raises ConfigError when a shape differs from what the network was built for.
        """
        self.check(x, condition)
        if t.ndim == 0:
            t = t.expand(len(x))
        if t.shape != (len(x),):
            raise ConfigError(f"t must have shape [{len(x)}] (the batch) or [], not {list(t.shape)}")
        return self.predict(x, t, condition)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        """The network itself, on checked arguments."""
        raise NotImplementedError

    def precompute(self, times: Tensor, condition: Condition | None) -> StepCache:
        """Everything that does not depend on x, for the times [S] of a solver. See `step`."""
        return StepCache(times, condition)

    def step(self, x: Tensor, index: int, cache: StepCache) -> Tensor:
        """Equals `self(x, cache.times[index], cache.condition)`."""
        return self.predict(x, cache.times[index].expand(len(x)), cache.condition)

    def check(self, x: Tensor, condition: Condition | None) -> None:
        """Raise ConfigError unless x and the condition have the shapes the network was built for."""
        expected, given = self.sizes.data_shape, tuple(x.shape[1:])
        if self.any_length and len(given) == len(expected):
            expected = (*expected[:-2], given[-2], expected[-1])
        if given != expected:
            raise ConfigError(
                f"network '{self.name}' was built for x of shape [B, {_join(self.sizes.data_shape)}], "
                f"not {list(x.shape)}"
            )
        parts = condition.present() if condition is not None else {}
        for part, width in self._widths().items():
            tensor = parts.get(part)
            got = 0 if tensor is None else tensor.shape[-1]
            if got != width:
                raise ConfigError(
                    f"network '{self.name}' was built for condition part '{part}' of width {width} "
                    f"(0: absent), not {got}"
                )
            if tensor is not None and len(tensor) != len(x):
                raise ConfigError(f"x has batch {len(x)} but condition part '{part}' has {len(tensor)}")

    def _widths(self) -> dict[str, int]:
        return {
            "global_": self.sizes.condition_dim,
            "local": self.sizes.local_dim,
            "tokens": self.sizes.token_dim,
        }


def _join(shape: tuple[int, ...]) -> str:
    return ", ".join(str(size) for size in shape)
