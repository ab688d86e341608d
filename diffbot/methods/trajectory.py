"""What planners share that denoise whole trajectories: layout, clips, what is known of a plan, its memory, the base class.

A plan has T steps of `stride` control steps each. Step j holds the state at its beginning and, in planners that diffuse
actions too, the `stride` actions taken from there, so that a coarse plan still drives the robot at full rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.transforms import TransformGroup
from diffbot.data.window_spec import WindowSpec
from diffbot.diffusion.constraints import Clip, Constraint, Inpaint, Together
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.predictions import prediction_by_name
from diffbot.diffusion.schedule import add_noise, noise_like, prior_noise
from diffbot.diffusion.schedules import schedule_by_name
from diffbot.diffusion.solvers import solver_by_name
from diffbot.diffusion.spacings import spacing_by_name
from diffbot.errors import ConfigError, ContractError, unknown
from diffbot.methods.imitation import ImitationConfig, ImitationPolicy, selected_keys
from diffbot.methods.protocol import Memory, Observation, Prefix
from diffbot.networks import network_config


@dataclass(frozen=True)
class PlannerConfig(ImitationConfig):
    """Settings that every trajectory planner has; "paper" is Diffuser (Janner et al. 2022, App. C) where not said else."""

    observation_horizon: int = 1  # steps of history that are known; above 1 they are inpainted too
    horizon: int = 32  # control steps that a plan covers (paper: 32 for locomotion, 128 to 384 in mazes)
    action_horizon: int = 8  # executed steps before planning again (paper: 1)
    stride: int = 1  # control steps in one step of the plan; the actions between are kept (paper: 1)
    constant: tuple[
        str, ...
    ] = ()  # keys that do not change within an episode: known at every step of the plan
    goal: dict[str, str] = field(
        default_factory=dict
    )  # {goal: position}: key `goal` is where `position` ends
    pad_action: str = (
        "repeat"  # behind an episode's end actions repeat the last, or are "zero" (forces, deltas)
    )
    network: str = "unet"  # denoiser; paper: unet
    network_options: dict[str, Any] = field(default_factory=dict)  # paper: {down_dims: [32, 64, 128, 256]}
    schedule: str = "squared_cosine"  # paper: cosine
    schedule_options: dict[str, Any] = field(default_factory=dict)  # paper: {steps: 20}; mazes 64 to 256
    prediction: str = "sample"  # what the network outputs; paper: the clean sample
    weighting: str = "simple"  # of the loss over noise levels; paper: simple
    solver: str = "ddpm"  # paper: ddpm
    solver_options: dict[str, Any] = field(default_factory=dict)
    spacing: str = ""  # where the solver steps; empty: what suits the solver
    inference_steps: int = 20  # paper: 20
    clip: bool = True  # keep clean estimates in [-1, 1] while sampling; paper: True
    temperature: float = 1.0  # scale of the initial noise and of the noise that the solver adds
    warm_start: float | None = None  # noise level in [0, 1] from which a replan starts; None: from pure noise

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride < 1 or self.inference_steps < 1:
            raise ConfigError(
                f"stride and inference_steps must be at least 1, got {self.stride}, {self.inference_steps}"
            )
        if self.horizon % self.stride or (self.observation_horizon - 1) % self.stride:
            raise ConfigError(
                f"horizon={self.horizon} and observation_horizon-1={self.observation_horizon - 1} must be multiples of "
                f"stride={self.stride}. Nearest horizon: {max(1, round(self.horizon / self.stride)) * self.stride}"
            )
        if self.pad_action not in ("repeat", "zero"):
            raise unknown("pad_action", self.pad_action, ("repeat", "zero"))
        if self.temperature < 0:
            raise ConfigError(f"temperature must not be negative, got {self.temperature}")
        if self.warm_start is not None and not 0.0 <= self.warm_start <= 1.0:
            raise ConfigError(f"warm_start is a noise level in [0, 1], got {self.warm_start}")

    @property
    def network_settings(self) -> Any:
        """The denoiser's settings; a U-Net that is told nothing has the levels 32, 64, 128."""
        usual = {"down_dims": (32, 64, 128)} if self.network == "unet" else {}
        return network_config(self.network, {**usual, **self.network_options})

    @property
    def past(self) -> int:
        """Steps of a plan that lie before now."""
        return (self.observation_horizon - 1) // self.stride

    @property
    def length(self) -> int:
        """T: steps of a plan, the past ones included."""
        return self.past + self.horizon // self.stride


@dataclass(frozen=True)
class Layout:
    """Where the actions and each key lie in one step of a trajectory [B, T, C]: actions first, then the keys in order."""

    sizes: Mapping[str, int]
    action_dim: int  # A
    stride: int
    actions: bool = True  # whether actions are part of the trajectory

    @property
    def block(self) -> int:
        """Width of a step's actions."""
        return self.stride * self.action_dim if self.actions else 0

    @property
    def channels(self) -> int:
        """C."""
        return self.block + sum(self.sizes.values())

    def slice(self, key: str) -> slice:
        """The channels of an observation key."""
        start = self.block
        for name, size in self.sizes.items():
            if name == key:
                return slice(start, start + size)
            start += size
        raise unknown("key of the plan", key, self.sizes)

    def states(self, observations: Mapping[str, Tensor], step: int | None = None) -> Tensor:
        """Observations {key: [B, N, ...]} as [B, ceil(N / step), S], every `step`-th (default: every `stride`-th)."""
        return torch.cat([observations[k].flatten(2)[:, :: step or self.stride] for k in self.sizes], dim=-1)

    def pack(self, observations: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """Observations {key: [B, T * stride, ...]} and actions [B, T * stride, A] as a trajectory [B, T, C]."""
        states = self.states(observations)
        if not self.actions:
            return states
        return torch.cat([self.blocks(actions), states], dim=-1)

    def blocks(self, actions: Tensor) -> Tensor:
        """Actions [B, T * stride, A] -> [B, T, stride * A]."""
        return actions.reshape(len(actions), -1, self.stride * self.action_dim)

    def unblock(self, blocks: Tensor) -> Tensor:
        """Inverse of `blocks`."""
        return blocks.reshape(len(blocks), -1, self.action_dim)

    def unpack(self, x: Tensor) -> dict[str, Tensor]:
        """The states of a trajectory [B, T, C] by key, [B, T, size]."""
        return {key: x[..., self.slice(key)] for key in self.sizes}


@dataclass(frozen=True)
class Plan:
    """What a planner intends, in the transformed space.

    states: {key: [B, T, size]} from now on, `stride` control steps apart. actions: [B, H, A], H the planner's horizon.
    values: [B] normalised predicted return, None where the planner has no return model.
    trajectory: [B, T, C] as it was denoised, past steps included.
    """

    states: dict[str, Tensor]
    actions: Tensor
    values: Tensor | None
    trajectory: Tensor
    stride: int


class TiedTransforms(TransformGroup):
    """Transforms in which some keys take the statistics of others, so that a goal is measured like the state it is of."""

    ties: Mapping[str, str] = {}

    def fit(self, source: Any, episodes: Sequence[int] | np.ndarray | None = None) -> TransformGroup:
        super().fit(source, episodes)
        for key, of in self.ties.items():
            for own, other in zip(self.transforms[key], self.transforms[of], strict=True):
                own.load_statistics(other.statistics())
        return self


class TrajectoryPlanner(ImitationPolicy):
    """Base of the planners. A subclass writes `build` (with a module "network"), `loss`, and `denoiser` or all of `plan`."""

    config: PlannerConfig
    diffuses_actions = True
    network: Any

    def __init__(self, config: Any, contract: Contract, seed: int = 0) -> None:
        self.schedule = schedule_by_name(config.schedule, **config.schedule_options)
        self.prediction = prediction_by_name(config.prediction)
        self.solver = solver_by_name(config.solver)
        spacing = spacing_by_name(config.spacing or self.solver.spacing)
        self.times = spacing(self.schedule, config.inference_steps)
        keys = selected_keys(config, contract)
        for key in keys:
            if contract.field(key).kind == "image":
                raise ContractError(
                    f"a trajectory planner plans states, and '{key}' is an image. "
                    f"Choose among: method.keys=[{','.join(contract.state_keys)}]"
                )
        sizes = {k: contract.field(k).size for k in keys if k not in config.goal}
        for goal, key in config.goal.items():
            for name in (goal, key):
                if name not in keys:
                    raise unknown("key in method.goal", name, keys)
            if contract.field(goal).shape != contract.field(key).shape:
                raise ContractError(f"method.goal: '{goal}' and '{key}' differ in shape")
        for key in config.constant:
            if key not in sizes:
                raise unknown("key in method.constant", key, sizes)
        self.layout = Layout(sizes, contract.action.size, config.stride, self.diffuses_actions)
        super().__init__(config, contract, seed)

    # -- data -----------------------------------------------------------------------------------------------------

    @classmethod
    def window(cls, config: Any, contract: Contract) -> WindowSpec:
        """Clips: observations and actions over the whole horizon."""
        return WindowSpec(
            config.observation_horizon,
            config.horizon,
            selected_keys(config, contract),
            observe_future=True,
            pad_action=config.pad_action,
        )

    @classmethod
    def transforms(cls, config: Any, contract: Contract) -> TransformGroup:
        """`config.normalization` for states and actions; goals share the statistics of the states that they are of."""
        group = TiedTransforms.default(contract.select(selected_keys(config, contract)), config.normalization)
        assert isinstance(group, TiedTransforms)
        group.ties = config.goal
        return group

    def clips(self, batch: Batch) -> Tensor:
        """The trajectories [B, T, C] of a transformed batch."""
        observations = batch.observations
        if self.config.past and self.diffuses_actions:
            raise ConfigError(
                "a planner over states and actions takes no history: method.observation_horizon=1"
            )
        return self.layout.pack(observations, batch.actions)

    def known(self, length: int) -> Tensor:
        """Which entries of a trajectory are known before planning: bool [T, C]."""
        mask = torch.zeros(length, self.layout.channels, dtype=torch.bool)
        mask[: self.config.past + 1, self.layout.block :] = True
        for key in self.config.constant:
            mask[:, self.layout.slice(key)] = True
        for key in self.config.goal.values():
            mask[-1, self.layout.slice(key)] = True
        return mask

    def conditions(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """`known` [T, C] and the known values [B, T, C] (0 elsewhere) for {key: [B, To, ...]}. ConfigError for a missing key."""
        for key in self.keys:
            if key not in observation:
                raise ConfigError(
                    f"the observation lacks '{key}'; the planner reads: {', '.join(self.keys)}; "
                    f"given: {', '.join(observation) or '(nothing)'}"
                )
        states = self.layout.states(observation)
        mask = self.known(self.config.length).to(states.device)
        values = states.new_zeros(len(states), self.config.length, self.layout.channels)
        values[:, : self.config.past + 1, self.layout.block :] = states
        for key in self.config.constant:
            values[:, :, self.layout.slice(key)] = observation[key][:, -1:].flatten(2)
        for goal, key in self.config.goal.items():
            values[:, -1, self.layout.slice(key)] = observation[goal][:, -1].flatten(1)
        return mask, values

    # -- sampling -------------------------------------------------------------------------------------------------

    def denoiser(self, observation: Observation, batch: int, known: tuple[Tensor, Tensor]) -> Denoise:
        """What a solver is given for `batch` trajectories."""
        raise NotImplementedError

    def start(
        self, values: Tensor, memory: Memory | None, elapsed: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """First x and the times of a solve: pure noise, or the remembered plan, shifted and noised to `warm_start`.

        The times are those of the cold solve that do not lie above the level (Janner et al. 2022, Sec. 5.4).
        """
        level = self.config.warm_start
        if memory is None or level is None or memory["plan"].shape != values.shape:
            noise = prior_noise(
                self.schedule,
                values.shape,
                generator,
                device=values.device,
                temperature=self.config.temperature,
            )
            return noise, self.times
        plan = shifted(memory["plan"], round(elapsed / self.config.stride)).to(values)
        times = self.times[self.times <= level + 1e-6]
        if len(times) < 2:
            return plan, times
        noise = noise_like(plan, generator, "a warm start") * self.config.temperature
        return add_noise(plan, noise, float(times[0]), self.schedule), times

    def solve(
        self,
        denoise: Denoise,
        mask: Tensor,
        values: Tensor,
        *,
        generator: torch.Generator,
        memory: Memory | None = None,
        elapsed: int = 0,
        also: Sequence[Constraint] = (),
    ) -> Tensor:
        """Denoise trajectories [B, T, C] with the known entries clean at every level; `also` act after them."""
        x, times = self.start(values, memory, elapsed, generator)
        inpaint = Inpaint(mask[None], values, mode="clean")
        parts: list[Constraint] = [Clip(-1.0, 1.0)] if self.config.clip else []
        constraint = Together(*parts, inpaint, *also)
        if len(times) < 2:
            return constraint.on_state(x, 0.0, None)
        options = dict(self.config.solver_options)
        if self.config.temperature != 1.0 and self.solver.name in ("ddpm", "ddim"):
            options.setdefault("temperature", self.config.temperature)
        return self.solver(denoise, x, times, generator=generator, constraint=constraint, **options)

    # -- acting ---------------------------------------------------------------------------------------------------

    def plan(
        self,
        observation: Observation,
        *,
        generator: torch.Generator,
        prefix: Prefix | None = None,
        memory: Memory | None = None,
        elapsed: int = 0,
    ) -> Plan:
        """One plan for each row of `observation` {key: [B, To, ...]}.

        memory, elapsed: what the last plan left behind, and how many control steps ago it was made.
        """
        raise NotImplementedError

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """The actions [B, H, A] of a plan from pure noise."""
        return self.plan(observation, generator=generator, prefix=prefix).actions

    def act_on(
        self,
        observation: Observation,
        memory: Memory | None,
        elapsed: int,
        *,
        generator: torch.Generator,
        prefix: Prefix | None = None,
    ) -> tuple[Tensor, Memory]:
        """`act` that goes on from what the last call remembered; see `protocol.Remembering`."""
        plan = self.plan(observation, generator=generator, prefix=prefix, memory=memory, elapsed=elapsed)
        return plan.actions, {"plan": plan.trajectory} if self.config.warm_start is not None else {}


def shifted(plan: Tensor, steps: int) -> Tensor:
    """The trajectory [B, T, C] `steps` later; what is not planned yet repeats its last step."""
    if steps <= 0:
        return plan
    steps = min(steps, plan.shape[1] - 1)
    return torch.cat([plan[:, steps:], plan[:, -1:].expand(-1, steps, -1)], dim=1)


def step_weights(
    length: int, channels: int, *, discount: float = 1.0, first_action: float = 1.0, block: int = 0
) -> Tensor:
    """Loss weights [T, C]: discount^j with mean 1 over the steps, times `first_action` on the first step's actions.

    Source: Janner et al. 2022, public code (`get_loss_weights`).
    """
    decay = discount ** torch.arange(length, dtype=torch.float32)
    weights = (decay / decay.mean())[:, None].repeat(1, channels)
    weights[0, :block] = first_action
    return weights


def explained(error: ConfigError, config: PlannerConfig) -> ConfigError:
    """A network's complaint about the length it is built for, in terms of the settings that decide it."""
    if "multiple" not in str(error):
        return error
    return ConfigError(
        f"{error}. A plan has {config.length} steps: {config.past} of history and horizon={config.horizon} / "
        f"stride={config.stride}. Set method.horizon or method.network_options.down_dims (each level halves the length)"
    )
