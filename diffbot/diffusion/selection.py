"""Choosing among several samples, and measuring how much they differ (F13)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffbot.diffusion.errors import DiffusionError


def best_of(candidates: Tensor, scores: Tensor) -> Tensor:
    """The candidate of highest score for each observation: [B, N, ...], [B, N] -> [B, ...]."""
    _check(candidates, scores)
    index = scores.argmax(dim=1)
    return candidates[torch.arange(candidates.shape[0], device=candidates.device), index]


def resample(
    candidates: Tensor, scores: Tensor, generator: torch.Generator, *, temperature: float = 1.0
) -> Tensor:
    """Draw one candidate with probability softmax(scores / temperature) (importance re-sampling): -> [B, ...]."""
    _check(candidates, scores)
    if not temperature > 0.0:
        raise DiffusionError(
            f"the temperature of resampling is positive, not {temperature}; use best_of for 0"
        )
    weights = torch.softmax(scores.double() / temperature, dim=1).to(generator.device)
    index = torch.multinomial(weights, 1, generator=generator)[:, 0].to(candidates.device)
    return candidates[torch.arange(candidates.shape[0], device=candidates.device), index]


def mode_of(candidates: Tensor, *, bandwidth: float | None = None, iterations: int = 10) -> Tensor:
    """A mode-seeking average: mean shift from the candidate of highest kernel density, [B, N, ...] -> [B, ...].

    Unlike the mean it does not average across modes. bandwidth: of the Gaussian kernel in the candidates' unit; by default
    half the median distance of each set.
    """
    if candidates.dim() < 3:
        raise DiffusionError(f"mode_of needs candidates [B, N, ...], not {list(candidates.shape)}")
    flat = candidates.flatten(2)
    distance = torch.cdist(flat, flat)
    if bandwidth is None:
        width = 0.5 * distance.flatten(1).median(dim=1).values.clamp(min=1e-6)
    else:
        width = torch.full((flat.shape[0],), bandwidth, dtype=flat.dtype, device=flat.device)
    density = torch.exp(-0.5 * (distance / width[:, None, None]) ** 2).sum(2)
    centre = best_of(flat, density)
    for _ in range(iterations):
        squared = (flat - centre[:, None]).square().sum(2) / width[:, None] ** 2
        centre = (torch.softmax(-0.5 * squared, dim=1)[:, :, None] * flat).sum(1)
    return centre.reshape(candidates.shape[0], *candidates.shape[2:])


def sample_variance(candidates: Tensor) -> Tensor:
    """Mean over the entries of the variance over candidates, [B, N, ...] -> [B] (the reported action variance)."""
    if candidates.dim() < 3 or candidates.shape[1] < 2:
        raise DiffusionError(
            f"sample_variance needs candidates [B, N >= 2, ...], not {list(candidates.shape)}"
        )
    return candidates.var(dim=1).flatten(1).mean(1)


def _check(candidates: Tensor, scores: Tensor) -> None:
    if scores.dim() != 2 or candidates.shape[:2] != scores.shape:
        raise DiffusionError(
            f"candidates [B, N, ...] and scores [B, N] do not fit: {list(candidates.shape)} and {list(scores.shape)}"
        )
    if bool(torch.isnan(scores).any()):
        raise DiffusionError("scores of the candidates are NaN")
