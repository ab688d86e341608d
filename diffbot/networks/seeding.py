"""Randomness inside networks: initial weights and dropout, both from explicit seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError


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


class Counted(nn.Module):
    """Base of modules that draw in training: a seed and the number of calls decide each draw.

    Both live in buffers, so that a state dict restores the draws that come next and training resumes exactly.
    """

    seed: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator of this call."""
        generator = torch.Generator(device).manual_seed(int(self.seed) * 2**31 + int(self.calls))
        self.calls += 1
        return generator


class SeededDropout(Counted):
    """Dropout: in training, each entry is zeroed with probability p and the rest scaled by 1 / (1 - p)."""

    def __init__(self, p: float):
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ConfigError(f"dropout must be in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        keep = torch.rand(x.shape, generator=self.generator(x.device), device=x.device) >= self.p
        return x * keep / (1.0 - self.p)


class SeededCrop(Counted):
    """Crop images [B, C, H, W] to `share` of each side: at random per image in training, centrally otherwise."""

    def __init__(self, share: float):
        super().__init__()
        if not 0.0 < share <= 1.0:
            raise ConfigError(f"crop must be a share in (0, 1], not {share}")
        self.share = share

    def size(self, side: int) -> int:
        """Pixels kept of `side`: an even number, so that crops stay centred and patches whole."""
        return side if self.share == 1.0 else max(2 * round(self.share * side / 2), 2)

    def forward(self, images: Tensor) -> Tensor:
        height, width = (self.size(side) for side in images.shape[-2:])
        free_y, free_x = images.shape[-2] - height, images.shape[-1] - width
        if not self.training or (free_y == 0 and free_x == 0):
            y, x = free_y // 2, free_x // 2
            return images[..., y : y + height, x : x + width]
        generator = self.generator(images.device)
        batch = len(images)
        top = torch.randint(free_y + 1, (batch, 1), generator=generator, device=images.device)
        left = torch.randint(free_x + 1, (batch, 1), generator=generator, device=images.device)
        rows = top + torch.arange(height, device=images.device)
        columns = left + torch.arange(width, device=images.device)
        index = torch.arange(batch, device=images.device)[:, None, None]
        return images.movedim(1, -1)[index, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
