"""Diffusion Policy (P3): a conditional denoiser of action chunks, executed in receding horizon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.diffusion.constraints import Clip, Constraint, Inpaint, Together
from diffbot.diffusion.denoiser import Denoise, Denoiser
from diffbot.diffusion.guidance.inpaint import InpaintGuidance
from diffbot.diffusion.losses import diffusion_loss
from diffbot.diffusion.predictions import prediction_by_name
from diffbot.diffusion.schedule import prior_noise
from diffbot.diffusion.schedules import schedule_by_name
from diffbot.diffusion.solvers import solver_by_name
from diffbot.diffusion.spacings import spacing_by_name
from diffbot.errors import ConfigError
from diffbot.methods.imitation import ImitationConfig, ImitationPolicy
from diffbot.methods.protocol import Observation, Prefix
from diffbot.methods.registry import register
from diffbot.networks import Condition, build, network_config


@dataclass(frozen=True)
class DiffusionPolicyConfig(ImitationConfig):
    """Settings of Diffusion Policy; "paper" is its low-dimensional configuration (Chi et al. 2023, Tab. 7-8)."""

    network: str = "mlp"  # denoiser: mlp learns fastest on CPUs; paper: unet or transformer
    network_options: dict[str, Any] = field(
        default_factory=dict
    )  # its settings, {down_dims: [256, 512, 1024]}
    schedule: str = "squared_cosine"  # paper: squared cosine
    schedule_options: dict[str, Any] = field(default_factory=dict)  # paper: K = 100, which is the default
    prediction: str = "noise"  # what the network outputs; paper: noise
    weighting: str = "simple"  # of the loss over noise levels; paper: simple
    solver: str = "ddim"  # paper: ddpm, or ddim for low latency
    solver_options: dict[str, Any] = field(default_factory=dict)
    spacing: str = ""  # where the solver steps: uniform, log_snr, karras, ...; empty: what suits the solver
    inference_steps: int = 10  # paper: 100 (ddpm), 10 (ddim on the robot)
    clip: bool = True  # keep predicted clean actions in [-1, 1] while sampling; paper: True
    temperature: float = 1.0  # scale of the initial noise; below 1 draws nearer to the mode
    prefix_weight: float = 5.0  # largest weight of the guidance to a committed prefix (Black et al. 2025: 5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inference_steps < 1:
            raise ConfigError(f"inference_steps must be at least 1, got {self.inference_steps}")
        if self.prefix_weight <= 0:
            raise ConfigError(f"prefix_weight must be positive, got {self.prefix_weight}")
        if self.temperature < 0:
            raise ConfigError(f"temperature must not be negative, got {self.temperature}")


@register(
    name="diffusion_policy",
    role="policy",
    system="P3",
    paper="Chi et al., Diffusion Policy, RSS 2023",
    config=DiffusionPolicyConfig,
)
class DiffusionPolicy(ImitationPolicy):
    """Denoises chunks of actions given the observation history.

    Training (Sec. 2.2, Eq. 5): draw a chunk A0, a noise level t and noise eps; minimise the error of the network's
    prediction at alpha A0 + sigma eps. Acting: start from noise and run a solver, with the observation encoded once.
    """

    Config = DiffusionPolicyConfig
    config: DiffusionPolicyConfig
    encoder: nn.Module
    network: Callable[
        ..., Any
    ]  # what `act` calls: the module, or a compiled form of it that an engine puts here

    def __init__(self, config: DiffusionPolicyConfig, contract: Contract, seed: int = 0) -> None:
        self.schedule = schedule_by_name(config.schedule, **config.schedule_options)
        self.prediction = prediction_by_name(config.prediction)
        self.solver = solver_by_name(config.solver)
        spacing = spacing_by_name(config.spacing or self.solver.spacing)
        self.times = spacing(self.schedule, config.inference_steps)
        super().__init__(config, contract, seed)

    def build(self, seed: int) -> nn.ModuleDict:
        """`encoder` of the observation history and `network` that denoises."""
        config = self.config
        encoder = self.build_encoder(seed)
        network = build(
            network_config(config.network, config.network_options),
            (config.horizon, self.action_dim),
            encoder.condition_dim,
            generator=seed + 1,
        )
        return nn.ModuleDict({"encoder": encoder, "network": network})

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The denoising loss of a transformed batch."""
        condition = Condition(global_=self.encoded(model["encoder"], batch.observations))
        mask = batch.mask[..., None] if self.config.mask_padding else None
        loss = diffusion_loss(
            model["network"],
            self.schedule,
            self.prediction,
            batch.actions,
            condition,
            weighting=self.config.weighting,
            mask=mask,
            generator=generator,
        )
        return loss, {}

    def encode(self, observation: Observation) -> Condition:
        """What the network is conditioned on, computed once per chunk."""
        return Condition(global_=self.encoded(self.encoder, observation))

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """Sample a chunk [B, H, A] in the transformed space.

        observation: {key: [B, To, ...]}. prefix: actions that the chunk continues with weights in [0, 1] (real-time
        chunking, Black et al. 2025): guidance through the network's Jacobian lets the free steps learn of the committed
        ones, and steps of weight 1 are kept exactly. Call under `no_grad` then, not under `inference_mode`.
        """
        condition = self.encode(observation)
        assert condition.global_ is not None
        shape = (len(condition.global_), self.horizon, self.action_dim)
        noise = prior_noise(
            self.schedule,
            shape,
            generator,
            device=condition.global_.device,
            temperature=self.config.temperature,
        )
        denoise: Denoise = Denoiser(self.network, self.schedule, self.prediction, condition)
        if prefix is not None:
            # An engine's compiled form of the network has no derivative, so guidance takes the module itself.
            module = Denoiser(self.model["network"], self.schedule, self.prediction, condition)
            weights = prefix.weights[None, :, None].expand(shape)
            denoise = InpaintGuidance(module, prefix.actions, weights, self.config.prefix_weight)
        return self.solver(
            denoise,
            noise,
            self.times,
            generator=generator,
            constraint=self.constraint(prefix, shape),
            **self.config.solver_options,
        )

    def constraint(self, prefix: Prefix | None, shape: tuple[int, int, int]) -> Constraint | None:
        """Clipping, then the frozen part of the committed prefix."""
        parts: list[Constraint] = []
        if self.config.clip:
            parts.append(Clip(-1.0, 1.0))
        if prefix is not None:
            if tuple(prefix.actions.shape) != shape:
                raise ConfigError(
                    f"prefix actions have shape {tuple(prefix.actions.shape)}, the chunk {shape}"
                )
            parts.append(Inpaint((prefix.weights >= 1.0)[None, :, None], prefix.actions))
        return Together(*parts) if len(parts) > 1 else (parts[0] if parts else None)
