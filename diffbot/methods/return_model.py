"""The return of a noised trajectory: what guides planners that sample by the gradient of a learned objective."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.guidance.gradient import gradient
from diffbot.diffusion.schedule import Schedule, scalars
from diffbot.diffusion.solvers.ancestral import posterior_std
from diffbot.errors import ConfigError
from diffbot.networks.activations import Mish
from diffbot.networks.embeddings import TimeEncoder
from diffbot.networks.temporal import Conv, FiLMBlock, FiLMPair

TIME_DIM = 64


class ReturnScale(nn.Module):
    """Mean, spread and range of all returns seen in training; they travel with the weights."""

    count: Tensor
    mean: Tensor
    square: Tensor
    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "square", "low", "high"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def see(self, returns: Tensor) -> None:
        """Take in the returns [B] of a batch (Chan et al. 1983, parallel variance)."""
        values = returns.double()
        if not self.count:
            self.low.copy_(values.min())
            self.high.copy_(values.max())
        total = self.count + len(values)
        delta = values.mean() - self.mean
        self.square += (values - values.mean()).square().sum() + delta**2 * self.count * len(values) / total
        self.mean += delta * len(values) / total
        self.count.copy_(total)
        self.low.copy_(torch.minimum(self.low, values.min()))
        self.high.copy_(torch.maximum(self.high, values.max()))

    def standardized(self, returns: Tensor) -> Tensor:
        """(R - mean) / standard deviation; R - mean where all returns are equal."""
        std = (self.square / self.count.clamp(min=1.0)).sqrt()
        return ((returns - self.mean) / torch.where(std > 1e-6, std, 1.0)).to(returns)

    def fraction(self, returns: Tensor) -> Tensor:
        """Where returns lie between the worst (0) and the best (1) that were seen."""
        spread = self.high - self.low
        return ((returns - self.low) / torch.where(spread > 1e-6, spread, 1.0)).to(returns)


class ReturnModel(nn.Module):
    """(x_t [B, T, C], t [B]) -> standardised return [B]. A subclass writes `forward`."""

    def __init__(self, time_scale: float) -> None:
        super().__init__()
        self.scale = ReturnScale()
        self.time = TimeEncoder(TIME_DIM, time_scale)

    def loss(self, x: Tensor, t: Tensor, returns: Tensor) -> Tensor:
        """Squared error of the standardised return of noised trajectories; in training the scale learns of `returns`."""
        if self.training:
            self.scale.see(returns)
        return (self(x, t) - self.scale.standardized(returns)).square().mean()


class FlatReturnModel(ReturnModel):
    """Hidden layers of `dims` units over the flattened trajectory: for short plans a tenth of a U-Net's time."""

    def __init__(self, length: int, channels: int, dims: tuple[int, ...], time_scale: float) -> None:
        super().__init__(time_scale)
        sizes = (length * channels + TIME_DIM, *dims)
        layers = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), Mish())]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x.flatten(1), self.time(t)], dim=-1)).squeeze(-1)


class TemporalReturnModel(ReturnModel):
    """The first half of a temporal U-Net and two linear layers.

    Source: Janner et al. 2022, App. C: "the return model has the structure of the first half of the U-Net".
    """

    def __init__(self, length: int, channels: int, dims: tuple[int, ...], time_scale: float) -> None:
        super().__init__(time_scale)
        if length % 2 ** len(dims):
            raise ConfigError(
                f"a return model of {len(dims)} levels needs a multiple of {2 ** len(dims)} steps, not {length}"
            )
        groups = 8
        steps = list(zip((channels, *dims[:-1]), dims, strict=True))

        def block(inputs: int, outputs: int) -> FiLMBlock:
            return FiLMBlock(inputs, outputs, 5, groups, "linear")

        self.down = nn.ModuleList(FiLMPair(block(i, o), block(o, o)) for i, o in steps)
        self.shrink = nn.ModuleList(Conv(dim, dim, 3, "linear", stride=2) for dim in dims)
        blocks = [module for module in self.modules() if isinstance(module, FiLMBlock)]
        for slot, module in enumerate(blocks):
            module.slot = slot
        self.widths = [2 * module.outputs for module in blocks]
        self.film = nn.Linear(TIME_DIM, sum(self.widths))
        features = length // 2 ** len(dims) * dims[-1]
        self.head = nn.Sequential(
            nn.Linear(features + TIME_DIM, features // 2), nn.Mish(), nn.Linear(features // 2, 1)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(t)
        parts = self.film(F.mish(time)).split(self.widths, dim=-1)
        for pair, shrink in zip(self.down, self.shrink, strict=True):
            x = shrink(pair(x, parts))
        return self.head(torch.cat([x.flatten(1), time], dim=-1)).squeeze(-1)


RETURN_MODELS: dict[str, type[FlatReturnModel | TemporalReturnModel]] = {
    "unet": TemporalReturnModel,
    "mlp": FlatReturnModel,
}


@dataclass(frozen=True)
class ReturnGuide(Constraint):
    """Moves x uphill before each denoising step: x <- x + scale var grad J(x, t), `steps` times.

    var is the variance of the step that follows, from t to the next of `times` (Ho et al. 2020, Eq. 7). At the last
    `stop` noise levels nothing is moved. Known entries are restored by the constraint that stands after this one.
    Source: Janner et al. 2022, Alg. 1 with its public code (n_guide_steps, scale_grad_by_std, t_stopgrad).
    """

    model: nn.Module
    schedule: Schedule
    times: Tensor
    scale: float
    steps: int
    stop: int

    def on_state(self, x: Tensor, t: float, previous: Tensor | None) -> Tensor:
        times = [round(value, 7) for value in self.times.tolist()]
        index = min(range(len(times)), key=lambda i: abs(times[i] - t))
        if self.scale == 0.0 or index >= len(times) - 1 - self.stop:
            return x
        now, after = (scalars(self.schedule, times[i]) for i in (index, index + 1))
        variance = posterior_std(now, after) ** 2
        for _ in range(self.steps):
            x = x + self.scale * variance * gradient(
                lambda value: self.value(value, t), x, "the return model"
            )
        return x

    def value(self, x: Tensor, t: float) -> Tensor:
        """Standardised return [B] of trajectories at noise level t."""
        return self.model(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device))
