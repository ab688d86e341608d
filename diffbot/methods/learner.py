"""One trained module: its optimiser, its learning-rate schedule and its average."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.methods.ema import EMA, EMAConfig
from diffbot.methods.protocol import Accelerator

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay (Diffusion Policy: 1e-4, 1e-6, (0.95, 0.999), 500 steps of warm-up)."""

    learning_rate: float = 1e-3  # small networks learn fastest with ten times the published rate
    weight_decay: float = 1e-6
    betas: tuple[float, float] = (0.95, 0.999)
    warmup: int = 100  # steps until the full rate
    schedule: str = "cosine"  # or "constant"
    gradient_clip: float = 1.0  # largest norm of the gradient; 0: no limit

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"optimizer.schedule '{self.schedule}' is not one of {', '.join(SCHEDULES)}")
        if not self.learning_rate > 0 or self.warmup < 0 or self.gradient_clip < 0:
            raise ConfigError(
                "optimizer needs learning_rate > 0, warmup >= 0 and gradient_clip >= 0, got "
                f"{self.learning_rate}, {self.warmup}, {self.gradient_clip}"
            )

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of step `step` (0 first) when `progress` in [0, 1] of the budget is spent."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "constant":
            return self.learning_rate * warm
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


class Learner:
    """Trains a copy of `module` (`online`) and keeps `module` itself as the average that acts."""

    def __init__(
        self, module: nn.Module, optimizer: OptimizerConfig, ema: EMAConfig, accelerator: Accelerator
    ) -> None:
        self.config = optimizer
        self.accelerator = accelerator
        self.module = module.requires_grad_(False).eval()
        self.online = copy.deepcopy(module).requires_grad_(True).train()
        self.parameters = [p for p in self.online.parameters() if p.requires_grad]
        fused = accelerator.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=optimizer.learning_rate,
            weight_decay=optimizer.weight_decay,
            betas=(optimizer.betas[0], optimizer.betas[1]),
            fused=fused,
        )
        self.ema = EMA(self.online, self.module, ema)
        self.steps = 0

    def step(self, loss: Tensor, progress: float = 0.0) -> dict[str, Tensor | float]:
        """Backward, mean of the gradients over processes, clip, AdamW, average. Returns rate, gradient norm, decay."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.accelerator.average([p.grad for p in self.parameters if p.grad is not None])
        metrics: dict[str, Tensor | float] = {}
        if self.config.gradient_clip:
            metrics["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        rate = self.config.rate(self.steps, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        metrics["ema_decay"] = self.ema.update()
        self.steps += 1
        metrics["learning_rate"] = rate
        return metrics

    def state(self) -> dict[str, Any]:
        """Weights, average, optimiser and counters."""
        return {
            "online": self.online.state_dict(),
            "average": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "ema_updates": self.ema.updates,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.online.load_state_dict(state["online"])
        self.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = int(state["steps"])
        self.ema.updates = int(state["ema_updates"])


def load_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights strictly. Raises ValueError naming the missing, unknown and misshapen entries."""
    own = module.state_dict()
    problems = [f"lacks '{name}'" for name in own if name not in state]
    problems += [f"has an unknown '{name}'" for name in state if name not in own]
    problems += [
        f"has '{name}' of shape {list(state[name].shape)}, needed {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError("; ".join(problems[:5]) + more)
    module.load_state_dict(dict(state))
