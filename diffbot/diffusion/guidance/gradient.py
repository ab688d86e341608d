"""Gradients inside sampling, which usually runs without autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffbot.diffusion.errors import DiffusionError


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, what: str) -> Tensor:
    """d sum_b function(x)_b / dx for function: [B, ...] -> [B]; works under no_grad and inference_mode.

    Tensors that the function closes over must not have been made under inference_mode if the gradient needs them.
    Raises DiffusionError when the result is not [B] or does not depend on x.
    """
    with torch.inference_mode(False), torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        value = function(point)
        if value.shape != x.shape[:1]:
            raise DiffusionError(
                f"{what} gives one number per sample, [{x.shape[0]}], not {list(value.shape)}"
            )
        if not value.requires_grad:
            raise DiffusionError(f"{what} does not depend on x through differentiable operations")
        (result,) = torch.autograd.grad(value.sum(), point)
    return result
