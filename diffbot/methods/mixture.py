"""A mixture of Gaussians as the output of a network (Bishop 1994, as robomimic sets it up)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mixture(NamedTuple):
    """logits [..., K], means [..., K, N] and standard deviations [..., K, N] of K diagonal Gaussians over N numbers."""

    logits: Tensor
    means: Tensor
    stds: Tensor

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) [...] for x [..., N]."""
        z = (x.unsqueeze(-2) - self.means) / self.stds
        each = -0.5 * z.square() - self.stds.log() - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(F.log_softmax(self.logits, dim=-1) + each.sum(-1), dim=-1)

    def sample(self, noise: float, generator: torch.Generator) -> Tensor:
        """Draw [B, N] where there is one batch axis; `noise` scales the spread within a mode, 0 gives its mean."""
        probabilities = torch.softmax(self.logits, dim=-1).to(generator.device)
        mode = torch.multinomial(probabilities, 1, generator=generator).to(self.means.device)
        index = mode[..., None].expand(-1, 1, self.means.shape[-1])
        mean, std = (values.gather(1, index).squeeze(1) for values in (self.means, self.stds))
        drawn = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
        return mean + noise * std * drawn


class MixtureHead(nn.Module):
    """Features [..., inputs] -> K diagonal Gaussians over `outputs` numbers, with means in [-1, 1].

    Means pass through tanh, standard deviations through softplus with `min_std` added (robomimic: K = 5, 1e-4).
    """

    def __init__(self, inputs: int, outputs: int, modes: int, min_std: float) -> None:
        super().__init__()
        self.outputs, self.modes, self.min_std = outputs, modes, min_std
        self.layer = nn.Linear(inputs, modes * (2 * outputs + 1))

    def forward(self, features: Tensor) -> Mixture:
        """The mixture of each feature vector."""
        # The likelihood is computed in full precision, whatever the network ran in.
        values = self.layer(features).float()
        logits, means, scales = values.split(
            [self.modes, self.modes * self.outputs, self.modes * self.outputs], dim=-1
        )
        shape = (*values.shape[:-1], self.modes, self.outputs)
        return Mixture(logits, means.reshape(shape).tanh(), F.softplus(scales.reshape(shape)) + self.min_std)
