"""One denoising step as a function, and what a network must offer to be run as one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, cast

from torch import Tensor, nn

Step = Callable[[Tensor, Tensor], Tensor]


class StepNetwork(Protocol):
    """A network whose dependence on (time, condition) passes through one modulation vector per step."""

    def precompute(self, times: Tensor, condition: Any) -> Any:
        """What does not depend on x: an object with time_part [S, M] and condition_part [B, M] or None."""

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The network given the sum of both parts [B or 1, M]."""


def can_accelerate(module: nn.Module) -> bool:
    """Whether a module offers the hooks of `StepNetwork`."""
    return callable(getattr(module, "precompute", None)) and callable(getattr(module, "modulated", None))


class StepModule(nn.Module):
    """`modulated` as a module's forward, for exporters and compilers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        return cast(Tensor, cast(Any, self.network).modulated(x, modulation))


def exportable(network: StepNetwork, layout: str) -> nn.Module:
    """A frozen copy as (x, modulation) -> output, with convolutions written in `layout` where the network has a choice."""
    module = cast(Any, network)
    config: Any = getattr(module, "config", None)
    if getattr(config, "layout", layout) == layout:
        fresh = copy.deepcopy(module)
    else:
        fresh = type(module)(replace(config, layout=layout), module.sizes)
        fresh.load_state_dict(module.state_dict())
    fresh.__dict__.pop("forward", None)
    return StepModule(fresh.requires_grad_(False).eval())
