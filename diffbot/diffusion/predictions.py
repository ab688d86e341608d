"""What a network may output, and the exact conversion of each form into the others.

With x = alpha x0 + sigma eps every form is linear in x and x0 at a fixed time:

    output = a(t) x + k(t) x0

so one pair (a, k) defines a prediction: `to_sample` inverts it, `target` evaluates it, and |k| is how strongly an error of
the clean sample shows in the output (used by the loss weightings).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffbot.diffusion.errors import DiffusionError, unknown
from diffbot.diffusion.schedule import Coefficients, Scalars, Schedule, coefficients


class Prediction(ABC):
    """One form of network output. `t` is a scalar in [0, 1] or [B]; x, output, x0 and noise are [B, ...]."""

    name: ClassVar[str]

    @abstractmethod
    def linear(self, c: Coefficients | Scalars) -> tuple[Any, Any]:
        """(a, k) of output = a x + k x0."""

    def scale_input(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """What the network is given in place of x."""
        return x

    def to_sample(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """The clean sample x0 that this output stands for.

        Raises DiffusionError where the output says nothing about x0 (for instance noise where alpha = 0).
        """
        c = coefficients(schedule, t, x)
        a, k = self.linear(c)
        if isinstance(k, float) and k == 0.0:
            raise DiffusionError(
                f"prediction '{self.name}' does not determine the sample at t={t} of schedule '{schedule.name}' "
                f"(alpha = {c.alpha}). Start below t = 1, or predict sample, velocity or edm."
            )
        return (output - a * x) / k

    def to_noise(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """The noise eps that this output stands for; sigma must not be 0."""
        return noise_of(self.to_sample(output, x, t, schedule), x, t, schedule)

    def from_sample(self, x0: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """The output that stands for x0: the inverse of `to_sample`."""
        a, k = self.linear(coefficients(schedule, t, x))
        return a * x + k * x0

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        """What the network should output for x = alpha x0 + sigma noise."""
        c = coefficients(schedule, t, x0)
        a, k = self.linear(c)
        return (a * c.alpha + k) * x0 + (a * c.sigma) * noise

    def sample_gain(self, t: float | Tensor, schedule: Schedule, like: Tensor) -> Any:
        """|k(t)|: error of the output per error of the clean sample."""
        return abs(self.linear(coefficients(schedule, t, like))[1])


@dataclass(frozen=True)
class Noise(Prediction):
    """eps (Ho et al. 2020): (x - alpha x0) / sigma."""

    name: ClassVar[str] = "noise"

    def linear(self, c: Coefficients | Scalars) -> tuple[Any, Any]:
        return 1.0 / _positive(c.sigma, self.name), -c.alpha / c.sigma

    def to_noise(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        return output

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        return noise


@dataclass(frozen=True)
class Sample(Prediction):
    """x0."""

    name: ClassVar[str] = "sample"

    def linear(self, c: Coefficients | Scalars) -> tuple[Any, Any]:
        return 0.0, 1.0

    def to_sample(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        return output

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        return x0

    def sample_gain(self, t: float | Tensor, schedule: Schedule, like: Tensor) -> Any:
        return 1.0


@dataclass(frozen=True)
class V(Prediction):
    """v = alpha eps - sigma x0 (Salimans & Ho 2022, App. D)."""

    name: ClassVar[str] = "v"

    def linear(self, c: Coefficients | Scalars) -> tuple[Any, Any]:
        sigma = _positive(c.sigma, self.name)
        return c.alpha / sigma, -(c.alpha**2 + sigma**2) / sigma

    def to_sample(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        c = coefficients(schedule, t, x)
        return (c.alpha * x - c.sigma * output) / (c.alpha**2 + c.sigma**2)

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        c = coefficients(schedule, t, x0)
        return c.alpha * noise - c.sigma * x0


@dataclass(frozen=True)
class Velocity(Prediction):
    """u = dx/dt = alpha' x0 + sigma' eps (Lipman et al. 2023; Liu et al. 2023 with t = 1 at the noise)."""

    name: ClassVar[str] = "velocity"

    def linear(self, c: Coefficients | Scalars) -> tuple[Any, Any]:
        rate = c.d_sigma / _positive(c.sigma, self.name)
        return rate, c.d_alpha - c.alpha * rate

    def to_sample(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        c = coefficients(schedule, t, x)
        if schedule.family == "flow":  # the denominator is constant and sigma = 0 is harmless
            return (c.d_sigma * x - c.sigma * output) / (c.alpha * c.d_sigma - c.d_alpha * c.sigma)
        return super().to_sample(output, x, t, schedule)

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        c = coefficients(schedule, t, x0)
        return c.d_alpha * x0 + c.d_sigma * noise


@dataclass(frozen=True)
class Score(Prediction):
    """grad log q_t(x) = -eps / sigma (Song et al. 2021)."""

    name: ClassVar[str] = "score"

    def linear(self, c: Coefficients | Scalars) -> tuple[Any, Any]:
        variance = _positive(c.sigma, self.name) ** 2
        return -1.0 / variance, c.alpha / variance

    def to_noise(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        return -coefficients(schedule, t, x).sigma * output

    def target(self, x0: Tensor, noise: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        return -noise / coefficients(schedule, t, x0).sigma


@dataclass(frozen=True)
class EDMPrecondition(Prediction):
    """F of D = c_skip x + c_out F(c_in x) (Karras et al. 2022, Table 1), for x / alpha at the noise level sigma / alpha.

    Written without division by alpha, so it holds on every schedule and up to alpha = 0. D = x at sigma = 0, hence it also
    is the boundary condition of consistency models (Song et al. 2023, Sec. 3).
    """

    sigma_data: float = 0.5

    name: ClassVar[str] = "edm"

    def __post_init__(self) -> None:
        if not self.sigma_data > 0.0:
            raise DiffusionError(f"edm prediction needs sigma_data > 0, not {self.sigma_data}")

    def _total(self, c: Coefficients | Scalars) -> Any:
        return (c.sigma**2 + (c.alpha * self.sigma_data) ** 2) ** 0.5

    def scale_input(self, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        return x / self._total(coefficients(schedule, t, x))

    def linear(self, c: Coefficients | Scalars) -> tuple[Any, Any]:
        total, sigma = self._total(c), _positive(c.sigma, self.name)
        return -c.alpha * self.sigma_data / (total * sigma), total / (sigma * self.sigma_data)

    def to_sample(self, output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
        c = coefficients(schedule, t, x)
        total = self._total(c)
        skip, out = c.alpha * self.sigma_data**2 / total**2, c.sigma * self.sigma_data / total
        return skip * x + out * output


PREDICTIONS: dict[str, type[Prediction]] = {
    kind.name: kind for kind in (Noise, Sample, V, Velocity, Score, EDMPrecondition)
}


def prediction_by_name(name: str, **options: float) -> Prediction:
    """Build a prediction: `prediction_by_name("edm", sigma_data=0.5)`; DiffusionError names the nearest match."""
    if name not in PREDICTIONS:
        raise unknown("prediction", name, PREDICTIONS)
    try:
        return PREDICTIONS[name](**options)
    except TypeError as error:
        raise DiffusionError(f"prediction '{name}' has no option {', '.join(sorted(options))}") from error


def convert_output(
    output: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule, source: Prediction, target: Prediction
) -> Tensor:
    """Turn one prediction of the clean sample at (x, t) into another form."""
    return target.from_sample(source.to_sample(output, x, t, schedule), x, t, schedule)


def noise_of(x0: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """eps = (x - alpha x0) / sigma."""
    c = coefficients(schedule, t, x)
    return (x - c.alpha * x0) / _positive(c.sigma, "noise")


def score_of(x0: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """grad log q_t(x) = (alpha x0 - x) / sigma^2, for x0 the posterior mean E[x0 | x] (Tweedie)."""
    c = coefficients(schedule, t, x)
    return (c.alpha * x0 - x) / _positive(c.sigma, "score") ** 2


def velocity_of(x0: Tensor, x: Tensor, t: float | Tensor, schedule: Schedule) -> Tensor:
    """dx/dt of the probability-flow ODE: alpha' x0 + sigma' eps."""
    c = coefficients(schedule, t, x)
    rate = c.d_sigma / _positive(c.sigma, "velocity")
    return rate * x + (c.d_alpha - c.alpha * rate) * x0


def _positive(sigma: Any, form: str) -> Any:
    """Sigma, refused where it is exactly 0: the form divides by it. Tensors are left to the caller (no sync)."""
    if not isinstance(sigma, Tensor) and sigma == 0.0:
        raise DiffusionError(
            f"the form '{form}' is undefined at sigma = 0 (t = 0): use the clean sample there"
        )
    return sigma if isinstance(sigma, Tensor) else float(sigma)


def flat_norm(x: Tensor) -> Tensor:
    """Euclidean norm over all but the batch dimension: [B, ...] -> [B]."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)
