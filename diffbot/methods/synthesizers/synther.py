"""SynthER (S1): diffusion over whole transitions, to multiply what a dataset or a replay buffer holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.replay import ReplayBuffer
from diffbot.data.transforms import TransformGroup
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.diffusion.denoiser import Denoiser
from diffbot.diffusion.losses import diffusion_loss
from diffbot.diffusion.predictions import prediction_by_name
from diffbot.diffusion.schedule import prior_noise
from diffbot.diffusion.schedules import schedule_by_name
from diffbot.diffusion.solvers import Churn, solver_by_name
from diffbot.diffusion.spacings import spacing_by_name
from diffbot.errors import ConfigError
from diffbot.methods.ema import EMAConfig
from diffbot.methods.imitation import selected_keys
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.registry import register
from diffbot.methods.trained import TrainedMethod
from diffbot.methods.transition_vector import RewardStatistics, TransitionVector
from diffbot.networks import build, network_config


@dataclass(frozen=True)
class SyntherConfig:
    """Settings of SynthER; "paper" is Lu et al. 2023, App. B and C."""

    keys: tuple[str, ...] = ()  # observation keys; empty: every state key of the dataset
    normalization: str = "mean_std"  # of states and actions; paper: mean 0, deviation 1
    network: str = "mlp"  # paper: residual MLP
    # Paper: width 1024, depth 6 (2048 for the larger tasks); half of it learns as fast on CPUs.
    network_options: dict[str, Any] = field(default_factory=lambda: {"width": 512, "depth": 6})
    sigma_data: float = 1.0  # deviation of the normalised data; paper: 1
    solver: str = "dpmpp_2m"  # paper: edm_heun
    spacing: str = "log_snr"  # paper: karras
    inference_steps: int = 20  # paper: 128
    churn: float = 0.0  # S_churn, noise put back in each step (edm solvers alone); paper: 80
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(3e-4, 0.0, (0.9, 0.99), 100, "cosine", 1.0)
    )  # paper: 3e-4, no decay, cosine
    ema: EMAConfig = field(default_factory=EMAConfig)

    def __post_init__(self) -> None:
        if self.inference_steps < 1:
            raise ConfigError(f"inference_steps must be at least 1, got {self.inference_steps}")
        if self.churn and not self.solver.startswith("edm"):
            raise ConfigError(
                f"churn={self.churn} goes with the solvers edm_heun and edm_euler, not '{self.solver}'"
            )


@register(
    name="synther",
    role="synthesizer",
    system="S1",
    paper="Lu et al., Synthetic Experience Replay, NeurIPS 2023",
    config=SyntherConfig,
)
class Synther(TrainedMethod):
    """Learns the density of (s, a, r, s', d) with EDM preconditioning and draws new transitions from it (Sec. 3).

    The terminal is diffused as -1 or 1 and rounded. `diffbot synthesize` writes what it draws as a dataset.
    """

    Config = SyntherConfig
    config: SyntherConfig
    network: nn.Module
    rewards: RewardStatistics

    def __init__(self, config: SyntherConfig, contract: Contract, seed: int = 0) -> None:
        self.keys = selected_keys(config, contract)
        images = [key for key in self.keys if contract.field(key).kind == "image"]
        if images:
            raise ConfigError(
                f"transitions are synthesized from state keys, not images ({', '.join(images)}). "
                f"Choose: method.keys=[{','.join(contract.state_keys)}]"
            )
        self.vector = TransitionVector(contract, self.keys)
        self.schedule = schedule_by_name("edm")
        self.prediction = prediction_by_name("edm", sigma_data=config.sigma_data)
        self.solver = solver_by_name(config.solver)
        self.times = spacing_by_name(config.spacing)(self.schedule, config.inference_steps)
        super().__init__(config, contract, seed)

    @classmethod
    def window(cls, config: SyntherConfig, contract: Contract) -> WindowSpec:
        """Single transitions."""
        return WindowSpec(
            1, 1, selected_keys(config, contract), rewards=True, terminals=True, next_observations=True
        )

    @classmethod
    def transforms(cls, config: SyntherConfig, contract: Contract) -> TransformGroup:
        """States and actions to mean 0 and deviation 1."""
        return TransformGroup.default(contract.select(selected_keys(config, contract)), config.normalization)

    def build(self, seed: int) -> nn.ModuleDict:
        """`network` that denoises a transition; `rewards`, how they are scaled."""
        config = network_config(self.config.network, self.config.network_options)
        network = build(config, (self.vector.dim,), generator=seed)
        return nn.ModuleDict({"network": network, "rewards": RewardStatistics()})

    def inspect(self, windows: Windows | ReplayBuffer) -> None:
        """Take the scale of the rewards from the data, before training."""
        self.rewards.fit(windows)

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The EDM loss of a transformed batch of transitions (Karras et al. 2022, Eq. 8)."""
        x0 = self.vector.pack(batch, model["rewards"])  # type: ignore[arg-type]
        loss = diffusion_loss(
            model["network"],
            self.schedule,
            self.prediction,
            x0,
            weighting="edm",
            time_distribution="log_normal",
            generator=generator,
        )
        return loss, {}

    @torch.no_grad()
    def synthesize(self, count: int, *, generator: torch.Generator) -> Batch:
        """`count` transitions in the transformed space: observations {key: [count, 1, ...]}, rewards [count, 1], ..."""
        noise = prior_noise(self.schedule, (count, self.vector.dim), generator, device=generator.device)
        # Karras et al. 2022, Table 5, as SynthER samples.
        options = {"churn": Churn(self.config.churn, 0.05, 50.0, 1.003)} if self.config.churn else {}
        x = self.solver(
            Denoiser(self.network, self.schedule, self.prediction),
            noise,
            self.times,
            generator=generator,
            **options,
        )
        return self.vector.unpack(x, self.rewards)
