"""Lightning Fabric as the method's `Accelerator`: device, precision and several processes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from diffbot.training.config import TrainingConfig


class FabricAccelerator:
    """Gradients are averaged in one flat all-reduce per step and dtype, so methods with any number of optimisers work."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.device: torch.device = fabric.device
        self.rank: int = fabric.global_rank
        self.world_size: int = fabric.world_size

    @classmethod
    def launch(cls, config: TrainingConfig) -> FabricAccelerator:
        """Start Fabric as the settings say; under torchrun or SLURM it joins the processes that are there."""
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        devices = config.devices if config.devices == "auto" else int(config.devices)
        several = config.nodes > 1 or devices not in (1, "auto")
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=config.nodes,
            strategy="ddp" if several else "auto",
            precision=config.precision,  # type: ignore[arg-type]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            fabric.launch()
        return cls(fabric)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the settings."""
        return self.fabric.autocast()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Mean over all processes, in place."""
        if self.world_size == 1:
            return
        for dtype in {t.dtype for t in tensors}:
            group = [t for t in tensors if t.dtype == dtype]
            flat = self._reduce(torch.cat([t.reshape(-1) for t in group]), "mean")
            for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def broadcast(self, value: float) -> float:
        """The first process's value, on all."""
        return value if self.world_size == 1 else float(self.fabric.broadcast(value))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process."""
        if self.world_size == 1:
            return flag
        return bool(self._reduce(torch.tensor(float(flag), device=self.device), "sum") > 0)

    def barrier(self) -> None:
        """Wait for all processes."""
        self.fabric.barrier()

    def _reduce(self, tensor: Tensor, operation: str) -> Tensor:
        reduced = self.fabric.all_reduce(tensor, reduce_op=operation)
        assert isinstance(reduced, Tensor)
        return reduced
