"""Consistency policy (F7): a diffusion policy distilled to one or two network evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.transforms import TransformGroup
from diffbot.data.window_spec import WindowSpec
from diffbot.diffusion.constraints import Clip
from diffbot.diffusion.denoiser import Denoiser
from diffbot.diffusion.distillation import pseudo_huber
from diffbot.diffusion.losses import masked_mean
from diffbot.diffusion.schedule import add_noise, coefficients, noise_like, prior_noise
from diffbot.diffusion.solvers import StepInfo, ddim
from diffbot.diffusion.spacings import uniform
from diffbot.errors import ConfigError, unknown
from diffbot.methods.bundle import LoadedPolicy, load_bundle
from diffbot.methods.pair_buffer import PairBuffer
from diffbot.methods.policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from diffbot.methods.protocol import Accelerator, Observation
from diffbot.methods.registry import register
from diffbot.networks import Condition

TARGETS = ("teacher", "self")

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
    teacher_steps: int = 50  # DDIM steps of the teacher's ODE that are distilled (paper: 80)
    target: str = (
        "teacher"  # the end of the teacher's own solve, or "self": the student at a neighbouring point
    )
    huber: float = (
        0.00054  # pseudo-Huber constant per square root of an entry (Song & Dhariwal 2024, Sec. 3.3)
    )
    buffer: int = 16384  # target=teacher: solved rows that are kept and drawn again
    reuse: int = 8  # target=teacher: how often a solved row is drawn on average; each costs teacher_steps
    jump: int = 1  # target=self: most teacher steps between the two points (consistency models: 1)
    anchor: float = 0.0  # target=self: weight of the denoising loss beside it (Consistency Policy, Eq. 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target not in TARGETS:
            raise unknown("target", self.target, TARGETS)
        if self.teacher_steps < 2 or not 1 <= self.jump <= self.teacher_steps:
            raise ConfigError(
                f"needs teacher_steps >= 2 and 1 <= jump <= teacher_steps, got {self.teacher_steps} and {self.jump}"
            )
        if self.target == "teacher" and self.teacher_steps % self.inference_steps:
            raise ConfigError(
                f"inference_steps={self.inference_steps} must divide teacher_steps={self.teacher_steps}: the student "
                "learns at the points where it is evaluated"
            )
        if not self.huber > 0 or self.anchor < 0 or self.reuse < 1 or self.buffer < 1:
            raise ConfigError(
                "needs huber > 0, anchor >= 0, reuse >= 1 and buffer >= 1, got "
                f"{self.huber}, {self.anchor}, {self.reuse}, {self.buffer}"
            )


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
    """Maps a point of the teacher's ODE to its end, so that one evaluation replaces the whole solve.

    Training, target=teacher (Liu et al. 2023, Sec. 2.2, distillation of the coupling; Luhman & Luhman 2021): the teacher
    solves from noise; the student's f at the points where it will be evaluated is pulled to the solve's end. Solved rows
    are kept in a ring and drawn `reuse` times.
    Training, target=self (Song et al. 2023, Alg. 2): draw a chunk A0, neighbouring times t > s and noise; the teacher
    steps from x_t to x_s; f(x_t, t) is pulled to f(x_s, s), whose gradient is stopped. f is the identity at t = 0 by its
    EDM parametrisation, so targets flow from the clean end up to pure noise. It needs far more steps.
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
        self.solved = PairBuffer(self.config.buffer)

    def update(self, batch: Batch, *, progress: float = 0.0) -> dict[str, Tensor | float]:
        """One gradient step. With target=teacher it is taken on solved rows, to which some of the batch are added."""
        if self.config.target == "self":
            return super().update(batch, progress=progress)
        learner, size = self._learner(), len(batch.actions)
        fresh = size if self.solved.size == 0 else max(size // self.config.reuse, 1)
        observation = {key: batch.observations[key][:fresh] for key in self.keys}
        # In full precision: near t = 1 a solver divides by a small alpha.
        self.solved.add(self.solve(observation, self.generator))
        with self.accelerator.autocast():
            rows = self.solved.draw(size, self.generator)
            loss = self.regression(learner.online, rows, self.generator)  # type: ignore[arg-type]
        return {"loss": loss.detach(), **learner.step(loss, progress)}

    @torch.no_grad()
    def solve(self, observation: Observation, generator: torch.Generator) -> dict[str, Tensor]:
        """The teacher's solves from fresh noise: observations, "points" [B, K, H, A] at self.times, "end" [B, H, A]."""
        assert self.teacher is not None, "begin_training() loads the teacher"
        condition = self.teacher.encode(observation)
        assert condition.global_ is not None
        shape = (len(condition.global_), self.horizon, self.action_dim)
        noise = prior_noise(self.schedule, shape, generator, device=condition.global_.device)
        every = self.config.teacher_steps // self.config.inference_steps
        points = [noise]

        def keep(info: StepInfo) -> None:
            if (info.step + 1) % every == 0:
                points.append(info.x.clone())

        teacher = Denoiser(self.teacher.model["network"], self.schedule, self.teacher.prediction, condition)
        clip = Clip(-1.0, 1.0) if self.config.clip else None
        end = ddim(teacher, noise, self.grid, constraint=clip, callback=keep)
        return {
            **{f"observation/{key}": value for key, value in observation.items()},
            "points": torch.stack(points[:-1], dim=1),
            "end": end,
        }

    def regression(
        self, model: nn.ModuleDict, rows: Mapping[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Distance of f at one random point of each solved row to the row's end."""
        points, end = rows["points"], rows["end"]
        observation = {key: rows[f"observation/{key}"] for key in self.keys}
        size, count = points.shape[:2]
        which = torch.randint(count, (size,), generator=generator, device=generator.device).to(points.device)
        times = self.times.to(points.device, torch.float32)[which]
        x = points[torch.arange(size, device=points.device), which]
        condition = Condition(global_=self.encoded(model["encoder"], observation))
        student = Denoiser(model["network"], self.schedule, self.prediction, condition)
        return pseudo_huber(student(x, times), end, self.config.huber).mean()

    def training_state(self) -> dict[str, Any]:
        """Learner, generator and the solved rows."""
        return {**super().training_state(), "solved": self.solved.state()}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`, after `begin_training`."""
        super().load_training_state(state)
        self.solved.load_state(state["solved"], self.accelerator.device)

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """target=teacher: distance to fresh solves. target=self: consistency, plus `anchor` times the denoising loss."""
        config = self.config
        if config.target == "teacher":
            return self.regression(model, self.solve(batch.observations, generator), generator), {}
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
        mask = batch.mask if config.mask_padding else None
        loss = masked_mean(pseudo_huber(estimate, target, config.huber), mask)
        metrics = {"consistency": loss.detach()}
        if config.anchor:
            anchor = masked_mean(pseudo_huber(estimate, x0, config.huber), mask)
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
