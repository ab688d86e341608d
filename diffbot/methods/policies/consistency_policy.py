"""Consistency policy (F7): a diffusion policy distilled to one or two network evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.transforms import TransformGroup
from diffbot.data.window_spec import WindowSpec
from diffbot.diffusion.denoiser import Denoiser
from diffbot.diffusion.schedule import add_noise, coefficients, noise_like
from diffbot.diffusion.spacings import uniform
from diffbot.errors import ConfigError
from diffbot.methods.bundle import LoadedPolicy, load_bundle
from diffbot.methods.policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from diffbot.methods.protocol import Accelerator
from diffbot.methods.registry import register
from diffbot.networks import Condition

FROM_TEACHER = (
    "keys",
    "observation_horizon",
    "horizon",
    "action_horizon",
    "normalization",
    "encoder",
    "network",
    "network_options",
    "schedule",
    "schedule_options",
    "clip",
)


@dataclass(frozen=True)
class ConsistencyPolicyConfig(DiffusionPolicyConfig):
    """Settings of the student; horizons, keys, encoder, network and schedule are the teacher's."""

    teacher: str = ""  # run or bundle of a diffusion_policy; its transforms are used as they are
    network: str = ""  # the teacher's; filled in when the student is built
    prediction: str = "edm"  # what the student's network outputs; edm is the identity at t = 0 (paper: edm)
    solver: str = "consistency"  # samples by jumping to the clean end and noising again
    inference_steps: int = 1  # network evaluations per chunk (paper: 1 or 3)
    teacher_steps: int = 50  # steps of the teacher's ODE grid that is distilled (paper: 80)
    huber: float = (
        0.00054  # pseudo-Huber constant per square root of an entry (Song & Dhariwal 2024, Sec. 3.3)
    )
    jump: int = (
        1  # most teacher steps between the two points that are made consistent (consistency models: 1)
    )
    anchor: float = 0.0  # weight of the plain denoising loss beside consistency (Consistency Policy, Eq. 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_steps < 2 or not 1 <= self.jump <= self.teacher_steps:
            raise ConfigError(
                f"needs teacher_steps >= 2 and 1 <= jump <= teacher_steps, got {self.teacher_steps} and {self.jump}"
            )
        if not self.huber > 0 or self.anchor < 0:
            raise ConfigError(f"needs huber > 0 and anchor >= 0, got {self.huber} and {self.anchor}")


class FittedTransforms(TransformGroup):
    """Transforms that keep the statistics they have: a student acts in its teacher's normalised space."""

    def fit(self, source: Any, episodes: Sequence[int] | np.ndarray | None = None) -> TransformGroup:
        return self


@register(
    name="consistency_policy",
    role="policy",
    system="F7",
    paper="Prasad et al., Consistency Policy, RSS 2024; Song et al., Consistency Models, ICML 2023",
    config=ConsistencyPolicyConfig,
)
class ConsistencyPolicy(DiffusionPolicy):
    """Maps every point of the teacher's ODE to its end, so that one evaluation replaces the whole solve.

    Training (Song et al. 2023, Alg. 2): draw a chunk A0, neighbouring times t > s and noise; the teacher takes its DDIM
    steps from x_t to x_s; the student's f(x_t, t) is pulled to its own f(x_s, s), whose gradient is stopped. f is the
    identity at t = 0 by its EDM parametrisation, so the targets flow from the data's end up to pure noise.
    Acting: f once, or again after noising to the next time (Alg. 1).
    """

    Config = ConsistencyPolicyConfig
    config: ConsistencyPolicyConfig

    def __init__(self, config: ConsistencyPolicyConfig, contract: Contract, seed: int = 0) -> None:
        self.teacher: DiffusionPolicy | None = None
        super().__init__(resolved(config), contract, seed)
        self.grid = uniform(self.schedule, self.config.teacher_steps)

    @classmethod
    def window(cls, config: ConsistencyPolicyConfig, contract: Contract) -> WindowSpec:
        return super().window(resolved(config), contract)

    @classmethod
    def transforms(cls, config: ConsistencyPolicyConfig, contract: Contract) -> TransformGroup:
        """The teacher's, with its statistics."""
        fitted = load_teacher(config).transforms
        return FittedTransforms.from_spec(fitted.spec(), fitted.statistics())

    def begin_training(self, accelerator: Accelerator | None = None, seed: int = 0) -> None:
        """Load the teacher and start from its weights."""
        teacher = load_teacher(self.config).method
        assert isinstance(teacher, DiffusionPolicy)
        self.model.load_state_dict(teacher.model.state_dict())
        super().begin_training(accelerator, seed)
        self.teacher = teacher.to(self.accelerator.device)  # type: ignore[assignment]

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Consistency between two points of one teacher trajectory, plus `anchor` times the denoising loss."""
        config = self.config
        x0 = batch.actions
        grid = self.grid.to(x0.device, torch.float32)
        size, steps = len(x0), config.teacher_steps
        where = generator.device
        first = torch.randint(steps, (size,), generator=generator, device=where).to(x0.device)  # index of t
        count = torch.randint(1, config.jump + 1, (size,), generator=generator, device=where).to(x0.device)
        last = (first + count).clamp(max=steps)  # index of s < t
        noise = noise_like(x0, generator, "consistency_policy")
        x = add_noise(x0, noise, grid[first], self.schedule)
        end = self.follow(x, first, last, grid, batch)
        condition = Condition(global_=self.encoded(model["encoder"], batch.observations))
        student = Denoiser(model["network"], self.schedule, self.prediction, condition)
        with torch.no_grad():
            target = self.bounded(student(end, grid[last]))
        estimate = student(x, grid[first])
        mask = batch.mask if config.mask_padding else torch.ones_like(batch.mask)
        loss = pseudo_huber(estimate - target, mask, config.huber)
        metrics = {"consistency": loss.detach()}
        if config.anchor:
            anchor = pseudo_huber(estimate - x0, mask, config.huber)
            loss = loss + config.anchor * anchor
            metrics["denoising"] = anchor.detach()
        return loss, metrics

    @torch.no_grad()
    def follow(self, x: Tensor, first: Tensor, last: Tensor, grid: Tensor, batch: Batch) -> Tensor:
        """The teacher's deterministic DDIM steps from grid[first] to grid[last], row by row [B]."""
        assert self.teacher is not None, "begin_training() loads the teacher"
        condition = self.teacher.encode(batch.observations)
        teacher = Denoiser(
            self.teacher.model["network"], self.teacher.schedule, self.teacher.prediction, condition
        )
        for _ in range(int((last - first).max())):
            moving = first < last
            t, s = grid[first], grid[torch.where(moving, first + 1, first)]
            sample = self.bounded(teacher(x, t))
            here, there = coefficients(self.schedule, t, x), coefficients(self.schedule, s, x)
            noise = (x - here.alpha * sample) / here.sigma
            step = there.alpha * sample + there.sigma * noise
            x = torch.where(moving.view(-1, *[1] * (x.ndim - 1)), step, x)
            first = first + moving
        return x

    def bounded(self, sample: Tensor) -> Tensor:
        """The clean estimate as the teacher's solver uses it."""
        return sample.clamp(-1.0, 1.0) if self.config.clip else sample


def pseudo_huber(error: Tensor, mask: Tensor, constant: float) -> Tensor:
    """Mean over rows of sqrt(|error|^2 + c^2) - c with c = constant sqrt(entries); error [B, H, A], mask [B, H]."""
    entries = error[0].numel()
    squared = (error.square() * mask[..., None]).flatten(1).sum(dim=1)
    c = constant * entries**0.5
    return ((squared + c**2).sqrt() - c).mean() / entries**0.5


def load_teacher(config: ConsistencyPolicyConfig) -> LoadedPolicy:
    """The teacher's bundle. Raises ConfigError when none is given or it is no diffusion_policy."""
    if not config.teacher:
        raise ConfigError(
            "consistency_policy is distilled from a trained diffusion_policy: give method.teacher=runs/NAME. "
            "Train one: diffbot train method=diffusion_policy method.inference_steps=50"
        )
    teacher = load_bundle(config.teacher)
    if teacher.name != "diffusion_policy":
        raise ConfigError(f"method.teacher='{config.teacher}' is a '{teacher.name}', not a diffusion_policy")
    return teacher


def resolved(config: ConsistencyPolicyConfig) -> ConsistencyPolicyConfig:
    """`config` with what the student shares with its teacher filled in; a config that has it needs no teacher."""
    if config.network:
        return config
    teacher = load_teacher(config).config
    names = {field.name for field in fields(teacher)}
    return replace(config, **{name: getattr(teacher, name) for name in FROM_TEACHER if name in names})
