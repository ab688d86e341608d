"""Decision Diffuser (P2): plans are states sampled under conditions; an inverse model reads the actions from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.window_spec import WindowSpec
from diffbot.diffusion.denoiser import Denoise, Denoiser
from diffbot.diffusion.guidance import BatchedComposition
from diffbot.diffusion.losses import diffusion_losses, masked_mean
from diffbot.errors import ConfigError, unknown
from diffbot.methods.baselines.bc_mlp import mlp
from diffbot.methods.protocol import Memory, Observation, Prefix, blend
from diffbot.methods.registry import register
from diffbot.methods.return_model import ReturnScale
from diffbot.methods.trajectory import Plan, PlannerConfig, TrajectoryPlanner, explained
from diffbot.networks import Condition, ConditionDropout, Sizes, build
from diffbot.networks.seeding import seeded

RETURN = "return"
UNLABELLED = "none"


@dataclass(frozen=True)
class DecisionDiffuserConfig(PlannerConfig):
    """Settings of Decision Diffuser; "paper" is Ajay et al. 2023, App. B, and its public code."""

    prediction: str = "noise"  # paper: noise
    temperature: float = 0.5  # low-temperature sampling: scale of all noise; paper: 0.5
    returns: bool = True  # condition on the return (needs rewards); paper: True
    discount: float = 0.99  # of the return; paper: 0.99
    target_return: float = 1.0  # asked for when acting: 0 is the worst of the data, 1 the best; paper: 1
    label_key: str = ""  # per-episode array that names the skill or the constraint of an episode
    labels: tuple[str, ...] = ()  # every value of it; "none" marks episodes without one
    guidance: float = 1.2  # weight w of the return when acting; paper: 1.2 to 1.8
    compose: dict[str, float] = field(
        default_factory=dict
    )  # {left: 1.5, slow: -1}: weights of labels when acting; negative negates
    dropout: float = 0.25  # probability that a condition is dropped in training; paper: 0.25
    condition_dim: int = 64  # width of the embedding of each condition; paper: 128
    inverse_width: int = 256  # units per layer of the inverse model; paper: 256 to 512
    inverse_depth: int = 2  # its hidden layers; paper: 2
    inverse_weight: float = 1.0  # of its loss beside the denoising loss; paper: 1

    def __post_init__(self) -> None:
        super().__post_init__()
        chunk = self.horizon - self.stride
        if chunk < 1 or self.action_horizon > chunk:
            raise ConfigError(
                f"action_horizon={self.action_horizon} is longer than the {chunk} actions that lie between the states of "
                f"a plan of horizon={self.horizon}: set method.action_horizon<={max(1, chunk)} or a longer horizon"
            )
        if bool(self.label_key) != bool(self.labels):
            raise ConfigError(
                f"give label_key and labels together, got '{self.label_key}' and {list(self.labels)}: "
                "method.label_key=NAME 'method.labels=[...]' with every value of that per-episode array"
            )
        for label in self.compose:
            if label not in self.labels or label == UNLABELLED:
                raise unknown("label in method.compose", label, self.labels or ("(no labels)",))

    @property
    def conditions(self) -> dict[str, float]:
        """Weights of the conditions when acting."""
        returns = {RETURN: self.guidance} if self.returns else {}
        return {**returns, **{str(name): float(weight) for name, weight in self.compose.items()}}


class Conditions(nn.Module):
    """Return and label as one vector [B, D], each part with a null token of its own."""

    def __init__(self, config: DecisionDiffuserConfig, length: int, channels: int) -> None:
        super().__init__()
        self.labels = tuple(sorted(config.labels))
        width = config.condition_dim
        self.scale = ReturnScale()
        self.encoders = nn.ModuleDict()
        if config.returns:
            self.encoders[RETURN] = nn.Sequential(nn.Linear(1, width), nn.Mish(), nn.Linear(width, width))
        if config.labels:
            self.encoders["label"] = nn.Embedding(len(self.labels), width)
        sizes = Sizes((length, channels), width)
        self.drops = nn.ModuleDict({name: ConditionDropout(sizes, config.dropout) for name in self.encoders})
        self.width = width

    @property
    def condition_dim(self) -> int:
        """D; 0 without conditions."""
        return self.width * len(self.encoders)

    def forward(
        self,
        batch: int,
        *,
        returns: Tensor | None = None,
        label: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Condition | None:
        """The condition of `batch` rows. A part that is not given is null; with a generator parts are dropped at random.

        returns: [B], as fractions of the range of the data. label: [B] int64, indices into the sorted labels.
        """
        parts = []
        for name, encoder in self.encoders.items():
            drop: Any = self.drops[name]
            given = returns[:, None] if name == RETURN and returns is not None else label
            if (returns if name == RETURN else label) is None or given is None:
                like = next(iter(drop.nulls.values()))
                parts.append(drop.null(Condition(global_=like.expand(batch, -1))).global_)
                continue
            part = Condition(global_=encoder(given))
            if name == "label" and UNLABELLED in self.labels:
                part = drop(part, drop=given == self.labels.index(UNLABELLED))
            parts.append((part if generator is None else drop(part, generator=generator)).global_)
        return Condition(global_=torch.cat(parts, dim=-1)) if parts else None


@register(
    name="decision_diffuser",
    role="planner",
    system="P2",
    paper="Ajay et al., Is Conditional Generative Modeling All You Need for Decision-Making?, ICLR 2023",
    config=DecisionDiffuserConfig,
)
class DecisionDiffuser(TrajectoryPlanner):
    """Denoises trajectories of states under a return, a constraint or a skill, and acts by inverse dynamics.

    Training (Alg. 1 and Eq. 9): the noise of a clip of states is predicted under its conditions, each of which is dropped
    at random; a = f(s, s') is regressed beside it. Planning: classifier-free guidance (Eq. 7), composition and negation of
    several conditions (Sec. 3.3, App. D), low-temperature ancestral sampling (Sec. 3.4), the observed history inpainted.
    """

    Config = DecisionDiffuserConfig
    config: DecisionDiffuserConfig
    diffuses_actions = False
    conditioning: Conditions
    inverse: nn.Module

    def __init__(self, config: DecisionDiffuserConfig, contract: Contract, seed: int = 0) -> None:
        super().__init__(config, contract, seed)
        self.horizon = config.horizon - config.stride  # the last state has no successor

    def build(self, seed: int) -> nn.ModuleDict:
        """`network`, `conditioning` and `inverse`."""
        config, layout = self.config, self.layout
        shape = (config.length, layout.channels)
        with seeded(seed):
            conditioning = Conditions(config, *shape)
        try:
            network = build(config.network_settings, shape, conditioning.condition_dim, generator=seed + 1)
        except ConfigError as error:
            raise explained(error, config) from error
        with seeded(seed + 2):
            inverse = mlp(
                2 * layout.channels,
                config.inverse_width,
                config.inverse_depth,
                layout.stride * layout.action_dim,
            )
        return nn.ModuleDict({"network": network, "conditioning": conditioning, "inverse": inverse})

    @classmethod
    def window(cls, config: Any, contract: Contract) -> WindowSpec:
        """Clips, with what their conditions are made of."""
        spec = vars(super().window(config, contract))
        more = {"returns": config.returns, "discount": config.discount, "task": config.label_key or None}
        return WindowSpec(**{**spec, **more})

    # -- training -------------------------------------------------------------------------------------------------

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising loss without the known entries, plus the inverse model's error; metrics "denoising", "inverse"."""
        config = self.config
        x0 = self.clips(batch)
        known = self.known(config.length).to(x0.device)
        losses = diffusion_losses(
            model["network"],
            self.schedule,
            self.prediction,
            x0,
            self.condition_of(model["conditioning"], batch, generator),  # type: ignore[arg-type]
            weighting=config.weighting,
            generator=generator,
            constrain=lambda x: torch.where(known, x0, x),
        )
        mask = (~known).expand_as(x0)
        if config.mask_padding:
            inside = batch.mask[:, :: config.stride]
            past = inside.new_ones(len(x0), config.past)
            mask = mask & torch.cat([past, inside], dim=1)[..., None]
        denoising = masked_mean(losses, mask)
        inverse = self.inverse_loss(model["inverse"], x0, batch)
        metrics = {"denoising": denoising.detach(), "inverse": inverse.detach()}
        return denoising + config.inverse_weight * inverse, metrics

    def condition_of(
        self, conditions: Conditions, batch: Batch, generator: torch.Generator
    ) -> Condition | None:
        """The conditions of a training batch, each dropped at random."""
        returns = label = None
        if self.config.returns:
            assert batch.returns is not None, "the window asks for returns"
            if conditions.training:
                conditions.scale.see(batch.returns)
            returns = conditions.scale.fraction(batch.returns)
        if self.config.labels:
            assert batch.task is not None, "the window asks for the label"
            label = batch.task
            if int(label.max()) >= len(conditions.labels):
                raise ConfigError(
                    f"'{self.config.label_key}' has more values than method.labels={list(conditions.labels)}: list all of them"
                )
        return conditions(len(batch), returns=returns, label=label, generator=generator)

    def inverse_loss(self, inverse: nn.Module, states: Tensor, batch: Batch) -> Tensor:
        """Squared error of the actions between neighbouring states of clips [B, T, S]; padding does not count."""
        stride = self.config.stride
        states = states[:, self.config.past :]
        pairs = torch.cat([states[:, :-1], states[:, 1:]], dim=-1)
        blocks = self.layout.blocks(batch.actions)[:, :-1]
        inside = batch.mask[:, ::stride][:, 1:]
        return masked_mean((inverse(pairs) - blocks).square(), inside)

    # -- planning -------------------------------------------------------------------------------------------------

    def denoiser(
        self,
        observation: Observation,
        batch: int,
        known: tuple[Tensor, Tensor],
        conditions: Mapping[str, float] | None = None,
        target_return: float | None = None,
    ) -> Denoise:
        """The model under weighted conditions: eps(null) + sum_i w_i (eps(y_i) - eps(null)) (Eq. 7; App. D, Eq. 22).

        conditions: {"return": w, label: w, ...}; a negative weight steers away. Default: the settings'.
        """
        weights = self.config.conditions if conditions is None else conditions
        weights = {name: weight for name, weight in weights.items() if weight != 0.0}
        given = [self.single(name, batch, target_return) for name in weights]
        plain = Denoiser(self.network, self.schedule, self.prediction, self.conditioning(batch))
        if not weights:
            return plain
        if tuple(weights.values()) == (1.0,):
            return plain.given(given[0])
        assert plain.condition is not None
        return BatchedComposition(
            plain.given(Condition.cat([plain.condition, *given])), tuple(weights.values())
        )

    def single(self, name: str, batch: int, target_return: float | None = None) -> Condition:
        """The condition in which only `name` ("return" or a label) is given."""
        conditions = self.conditioning
        device = next(conditions.parameters()).device
        if name == RETURN and RETURN in conditions.encoders:
            target = self.config.target_return if target_return is None else target_return
            return conditions(batch, returns=torch.full((batch,), target, device=device))  # type: ignore[return-value]
        if name not in conditions.labels or name == UNLABELLED:
            raise unknown("condition", name, (*([RETURN] if self.config.returns else []), *conditions.labels))
        label = torch.full((batch,), conditions.labels.index(name), device=device)
        return conditions(batch, label=label)  # type: ignore[return-value]

    def plan(
        self,
        observation: Observation,
        *,
        generator: torch.Generator,
        prefix: Prefix | None = None,
        memory: Memory | None = None,
        elapsed: int = 0,
        conditions: Mapping[str, float] | None = None,
        target_return: float | None = None,
    ) -> Plan:
        """One plan for each row; `conditions` and `target_return` as in `denoiser`.

        A prefix is blended into the actions, which are not denoised.
        """
        mask, values = self.conditions(observation)
        denoise = self.denoiser(observation, len(values), (mask, values), conditions, target_return)
        x = self.solve(denoise, mask, values, generator=generator, memory=memory, elapsed=elapsed)
        future = x[:, self.config.past :]
        blocks = self.inverse(torch.cat([future[:, :-1], future[:, 1:]], dim=-1))
        actions = blend(self.layout.unblock(blocks), prefix)
        return Plan(self.layout.unpack(future), actions, None, x, self.config.stride)
