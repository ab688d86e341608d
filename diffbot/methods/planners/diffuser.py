"""Diffuser (P1): plans are samples of a model of (state, action) trajectories, steered by the gradient of their return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.window_spec import WindowSpec
from diffbot.diffusion.constraints import Constraint, Inpaint, Together
from diffbot.diffusion.denoiser import Denoise, Denoiser
from diffbot.diffusion.losses import diffusion_losses, draw_times, masked_mean
from diffbot.diffusion.schedule import add_noise, noise_like
from diffbot.errors import ConfigError, unknown
from diffbot.methods.protocol import Memory, Observation, Prefix
from diffbot.methods.registry import register
from diffbot.methods.return_model import RETURN_MODELS, ReturnGuide, ReturnModel
from diffbot.methods.trajectory import Plan, PlannerConfig, TrajectoryPlanner, explained, step_weights
from diffbot.networks import build
from diffbot.networks.seeding import seeded


@dataclass(frozen=True)
class DiffuserConfig(PlannerConfig):
    """Settings of Diffuser; "paper" is Janner et al. 2022, App. C, and its public code for locomotion."""

    action_weight: float = 10.0  # of the first step's actions in the loss; paper: 10, mazes 1
    loss_discount: float = 1.0  # of later steps in the loss; paper: 1
    guide: bool = (
        True  # learn a return model (needs rewards) and follow its gradient; paper: True, mazes False
    )
    discount: float = 0.99  # of the return that guides; paper: 0.99 to 0.997
    scale: float = 0.1  # of the gradient of the standardised return; paper: 0.1
    guide_steps: int = 2  # gradient steps at each noise level; paper: 2
    guide_stop: int = 2  # last noise levels without a gradient; paper: 2
    guide_network: str = "unet"  # of the return model: unet (its first half) or mlp; paper: unet
    # channels per level of the return model (paper: those of the U-Net), or units of the mlp's hidden layers
    guide_dims: tuple[int, ...] = (32, 64)
    samples: int = (
        1  # plans for each observation, of which the one of highest predicted return is used; paper: 64
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.observation_horizon != 1:
            raise ConfigError(
                f"diffuser knows the present state only: set method.observation_horizon=1, not "
                f"{self.observation_horizon} (decision_diffuser takes a history)"
            )
        if self.guide_network not in RETURN_MODELS:
            raise unknown("guide_network", self.guide_network, RETURN_MODELS)
        if self.samples < 1 or self.guide_steps < 1 or self.guide_stop < 0:
            raise ConfigError(
                "needs samples >= 1, guide_steps >= 1 and guide_stop >= 0, got "
                f"{self.samples}, {self.guide_steps}, {self.guide_stop}"
            )
        if self.samples > 1 and not self.guide:
            raise ConfigError(
                "samples > 1 are ranked by the return model: set method.guide=true, or samples=1"
            )


@register(
    name="diffuser",
    role="planner",
    system="P1",
    paper="Janner et al., Planning with Diffusion for Flexible Behavior Synthesis, ICML 2022",
    config=DiffuserConfig,
)
class Diffuser(TrajectoryPlanner):
    """Denoises trajectories of states and actions that begin at the observed state.

    Training (Sec. 3.1): noise a clip, put the known entries back clean, predict the clean clip; beside it a return model
    learns the discounted return of noised clips. Planning (Alg. 1): from noise, or from the last plan noised again
    (Sec. 5.4), alternate gradient steps of the return and denoising steps, with the known entries put back after each.
    """

    Config = DiffuserConfig
    config: DiffuserConfig
    value: ReturnModel

    def build(self, seed: int) -> nn.ModuleDict:
        """`network`, and `value` where returns guide."""
        config = self.config
        shape = (config.length, self.layout.channels)
        try:
            network = build(config.network_settings, shape, generator=seed + 1)
            modules: dict[str, nn.Module] = {"network": network}
            if config.guide:
                with seeded(seed + 2):
                    kind = RETURN_MODELS[config.guide_network]
                    modules["value"] = kind(*shape, tuple(config.guide_dims), time_scale=100.0)
        except ConfigError as error:
            raise explained(error, config) from error
        return nn.ModuleDict(modules)

    @classmethod
    def window(cls, config: Any, contract: Contract) -> WindowSpec:
        """Clips, with the discounted return from their first step to the episode's end."""
        spec = super().window(config, contract)
        return WindowSpec(**{**vars(spec), "returns": config.guide, "discount": config.discount})

    # -- training -------------------------------------------------------------------------------------------------

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising loss without the known entries, plus the return model's error; metrics "denoising", "value", "a0"."""
        config = self.config
        x0 = self.clips(batch)
        known = self.known(config.length).to(x0.device)
        times = draw_times(self.schedule, x0, generator)
        noise = noise_like(x0, generator, "diffuser")
        losses = diffusion_losses(
            model["network"],
            self.schedule,
            self.prediction,
            x0,
            weighting=config.weighting,
            generator=generator,
            times=times,
            noise=noise,
            constrain=lambda x: torch.where(known, x0, x),
        )
        weights = step_weights(
            *x0.shape[1:],
            discount=config.loss_discount,
            first_action=config.action_weight,
            block=self.layout.block,
        ).to(x0)
        mask = (~known).expand_as(x0)
        if config.mask_padding:
            mask = mask & batch.mask[:, :: config.stride, None]
        loss = masked_mean(losses * weights, mask)
        metrics = {"denoising": loss.detach(), "a0": losses[:, 0, : self.layout.block].mean().detach()}
        if config.guide:
            assert batch.returns is not None, "the window asks for returns"
            noised = torch.where(known, x0, add_noise(x0, noise, times, self.schedule))
            error = model["value"].loss(noised, times.to(x0), batch.returns)  # type: ignore[operator]
            metrics["value"] = error.detach()
            loss = loss + error
        return loss, metrics

    # -- planning -------------------------------------------------------------------------------------------------

    def denoiser(self, observation: Observation, batch: int, known: tuple[Tensor, Tensor]) -> Denoise:
        """The unconditional model of trajectories."""
        return Denoiser(self.network, self.schedule, self.prediction)

    def plan(
        self,
        observation: Observation,
        *,
        generator: torch.Generator,
        prefix: Prefix | None = None,
        memory: Memory | None = None,
        elapsed: int = 0,
        scale: float | None = None,
    ) -> Plan:
        """Sample `config.samples` plans per row and keep the one of highest predicted return.

        scale: of the guidance in place of `config.scale`. prefix: committed actions, inpainted with their weights.
        """
        config, layout = self.config, self.layout
        mask, values = self.conditions(observation)
        rows, count = len(values), config.samples
        values = values.repeat_interleave(count, dim=0)
        guide: list[Constraint] = []
        inpaint = Inpaint(mask[None], values, mode="clean")
        if config.guide:
            strength = config.scale if scale is None else scale
            guide = [
                ReturnGuide(
                    self.value, self.schedule, self.times, strength, config.guide_steps, config.guide_stop
                ),
                inpaint,
            ]
        if prefix is not None:
            guide.append(self.committed(prefix, rows, count))
        x = self.solve(
            self.denoiser(observation, len(values), (mask, values)),
            mask,
            values,
            generator=generator,
            memory=memory if count == 1 or memory is None else repeated(memory, count),
            elapsed=elapsed,
            also=[Together(*guide)] if guide else [],
        )
        predicted: Tensor | None = None
        if config.guide:
            predicted = self.value(x, torch.full_like(x[:, 0, 0], float(self.times[-2])))
            if count > 1:
                best = predicted.view(rows, count).argmax(dim=1)
                chosen = torch.arange(rows, device=x.device) * count + best
                x, predicted = x[chosen], predicted[chosen]
        return Plan(layout.unpack(x), layout.unblock(x[..., : layout.block]), predicted, x, config.stride)

    def committed(self, prefix: Prefix, rows: int, count: int) -> Constraint:
        """The committed actions as known entries of the trajectory, pulled to with their weights."""
        if tuple(prefix.actions.shape) != (rows, self.horizon, self.action_dim):
            raise ConfigError(
                f"prefix actions have shape {tuple(prefix.actions.shape)}, the chunk {(rows, self.horizon, self.action_dim)}"
            )
        layout, length = self.layout, self.config.length
        blocks = layout.blocks(prefix.actions).repeat_interleave(count, dim=0)
        known = blocks.new_zeros(len(blocks), length, layout.channels)
        known[..., : layout.block] = blocks
        weights = known.new_zeros(1, length, layout.channels)
        weights[0, :, : layout.block] = layout.blocks(
            prefix.weights.to(known)[None, :, None].expand(1, self.horizon, self.action_dim)
        )[0]
        return Inpaint(weights, known)


def repeated(memory: Memory, count: int) -> Memory:
    """Each remembered row `count` times."""
    return {key: value.repeat_interleave(count, dim=0) for key, value in memory.items()}
