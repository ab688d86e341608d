"""Randomness inside networks: initial weights and dropout, both from explicit seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def seeded(source: torch.Generator | int) -> Iterator[None]:
    """Initialise modules from `source` alone and leave PyTorch's global generator as it was.

    A generator is advanced by one draw, so that networks built one after the other differ.
    """
    seed = source if isinstance(source, int) else int(torch.randint(2**62, (), generator=source))
    # PyTorch's module constructors draw from the global generator and take no other.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class SeededDropout(nn.Module):
    """Dropout whose masks follow from a seed and the number of calls, so that training resumes exactly.

    Both live in buffers: a state dict restores the masks that come next.
    """

    seed: Tensor
    calls: Tensor

    def __init__(self, p: float):
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout must be in [0, 1), not {p}")
        self.p = p
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        generator = torch.Generator(x.device).manual_seed(int(self.seed) * 2**31 + int(self.calls))
        self.calls += 1
        keep = torch.rand(x.shape, generator=generator, device=x.device) >= self.p
        return x * keep / (1.0 - self.p)
