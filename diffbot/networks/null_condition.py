"""Condition dropout: the only place where a condition is replaced by the null token of classifier-free guidance."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.networks.base import Sizes
from diffbot.networks.condition import Condition


class ConditionDropout(nn.Module):
    """Replaces conditions by a learned null vector per part, sample by sample.

    Training: `dropout(condition, generator=g)` drops each sample with probability `p`. Guidance:
    `dropout.null(condition)` is the condition of the unconditional branch.
    Source: Ho & Salimans 2022 (Classifier-Free Diffusion Guidance), Algorithm 1.
    """

    def __init__(self, sizes: Sizes, p: float = 0.1):
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ConfigError(f"the probability of condition dropout must be in [0, 1], not {p}")
        self.p = p
        widths = {"global_": sizes.condition_dim, "local": sizes.local_dim, "tokens": sizes.token_dim}
        # A null of zeros would equal a normalised, average condition; a small random one does not.
        self.nulls = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(width)) for name, width in widths.items() if width}
        )

    def forward(
        self, condition: Condition, *, generator: torch.Generator | None = None, drop: Tensor | None = None
    ) -> Condition:
        """Drop the rows drawn from `generator`, or those where `drop` [B] bool is True."""
        batch = condition.batch
        if batch is None:
            return condition
        if drop is None:
            if generator is None:
                raise ConfigError("condition dropout needs a generator or the rows to drop")
            drop = torch.rand(batch, generator=generator, device=generator.device) < self.p
        if drop.shape != (batch,) or drop.dtype != torch.bool:
            raise ConfigError(f"drop must be bool of shape [{batch}], not {drop.dtype} {list(drop.shape)}")
        parts = {}
        for name, tensor in condition.present().items():
            if name == "token_mask":
                continue
            if name not in self.nulls:
                raise ConfigError(
                    f"condition part '{name}' has no null token; it has: {', '.join(self.nulls)}"
                )
            rows = drop.to(tensor.device).view(-1, *[1] * (tensor.ndim - 1))
            parts[name] = torch.where(rows, self.nulls[name].to(tensor.dtype), tensor)
        return replace(condition, **parts)

    def null(self, condition: Condition) -> Condition:
        """The null condition with the shapes of `condition`."""
        batch = condition.batch
        return condition if batch is None else self(condition, drop=torch.ones(batch, dtype=torch.bool))
