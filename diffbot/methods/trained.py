"""What every method shares that learns one loss: weights that act, the trained copy, its optimiser and exact resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.methods.learner import Learner, load_weights
from diffbot.methods.protocol import Accelerator, LocalAccelerator


class TrainedMethod(ABC):
    """Base of the methods that minimise a loss. A subclass builds `model` and writes `loss`.

    `model` holds the weights that act; training works on a copy of it and `model` follows as the average. `config` has an
    `optimizer` and an `ema`.
    """

    def __init__(self, config: Any, contract: Contract, seed: int = 0) -> None:
        self.config = config
        self.contract = contract
        self.learner: Learner | None = None
        self.accelerator: Accelerator = LocalAccelerator()
        self.generator = torch.Generator()
        self.model = self.build(seed).requires_grad_(False).eval()
        self.bind()

    @abstractmethod
    def build(self, seed: int) -> nn.ModuleDict:
        """The modules, initialised from `seed`."""

    @abstractmethod
    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss of a transformed batch and further metrics."""

    def bind(self) -> None:
        """Point the attributes that run the method at the modules of `model`."""
        for name, module in self.model.items():
            setattr(self, name, module)

    # -- weights --------------------------------------------------------------------------------------------------

    def to(self, device: torch.device | str) -> Self:
        """Move all weights."""
        self.model.to(device)
        return self

    def policy_state(self) -> dict[str, Tensor]:
        """The weights that act, by name."""
        return dict(self.model.state_dict())

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `policy_state`. Raises ValueError naming what does not fit."""
        load_weights(self.model, state)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that act."""
        return self.model.parameters()

    # -- training -------------------------------------------------------------------------------------------------

    def begin_training(self, accelerator: Accelerator | None = None, seed: int = 0) -> None:
        """Make the trained copy, its optimiser and the noise generator, which differs between processes."""
        self.accelerator = accelerator or LocalAccelerator()
        self.to(self.accelerator.device)
        self.learner = Learner(self.model, self.config.optimizer, self.config.ema, self.accelerator)
        self.generator = torch.Generator(self.accelerator.device)
        self.generator.manual_seed(seed * 1009 + self.accelerator.rank)

    def update(self, batch: Batch, *, progress: float = 0.0) -> dict[str, Tensor | float]:
        """One gradient step; metrics "loss" and those of `loss` and `Learner.step`."""
        learner = self._learner()
        with self.accelerator.autocast():
            loss, more = self.loss(learner.online, batch, self.generator)  # type: ignore[arg-type]
        return {"loss": loss.detach(), **more, **learner.step(loss, progress)}

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor | float]:
        """The loss of the weights that act."""
        loss, more = self.loss(self.model, batch, generator)
        return {"loss": loss, **more}

    def training_state(self) -> dict[str, Any]:
        """Learner and noise generator."""
        return {"learner": self._learner().state(), "generator": self.generator.get_state()}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`, after `begin_training`."""
        self._learner().load_state(state["learner"])
        self.generator.set_state(state["generator"])

    def _learner(self) -> Learner:
        if self.learner is None:
            raise RuntimeError("call begin_training() before update() or training_state()")
        return self.learner
