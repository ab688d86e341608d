"""The schedulers of the `diffusers` package as an independent oracle: the same walk, step by step, in float64.

Its schedulers hold tables and samples in float32. `in_double` runs their own code with the name float32 meaning float64, so
that the comparison is of formulas and not of rounding; nothing else of them is changed. Noise is shared by handing their
`randn_tensor` the draws that our solver made.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from diffbot.diffusion import (
    EDM,
    Denoiser,
    RectifiedFlow,
    Schedule,
    StepInfo,
    VPDiscreteLinear,
    VPSquaredCosine,
    noise_like,
    prediction_by_name,
    solver_by_name,
    spacing,
)
from diffbot.diffusion.constraints import Clip, Constraint
from diffbot.diffusion.schedule import scalars
from diffbot.diffusion.solvers import Churn

SHAPE = (5, 4, 3)


class _Double:
    """A module in which float32 means float64."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.float32 = module.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@contextlib.contextmanager
def in_double(module_name: str, seed: int = 7) -> Iterator[Any]:
    """The scheduler module, computing in float64 and drawing the noise that a solver seeded with `seed` draws."""
    module = importlib.import_module(f"diffusers.schedulers.{module_name}")
    generator = torch.Generator().manual_seed(seed)

    def shared(shape: Any, **_: Any) -> Tensor:
        return noise_like(torch.empty(tuple(shape), dtype=torch.float64), generator)

    with contextlib.ExitStack() as stack:
        for name, value in (("torch", _Double(torch)), ("np", _Double(np)), ("randn_tensor", shared)):
            if hasattr(module, name):
                stack.enter_context(mock.patch.object(module, name, value))
        yield module


def network(seed: int = 0) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """A fixed random network (x [B, 4, 3], t [B], condition) -> [B, 4, 3], smooth and nonlinear in both, float64."""
    generator = torch.Generator().manual_seed(seed)
    size = SHAPE[1] * SHAPE[2]
    first = torch.randn(size, 32, generator=generator, dtype=torch.float64) / math.sqrt(size)
    second = torch.randn(32, size, generator=generator, dtype=torch.float64) / math.sqrt(32)
    rates = torch.randn(32, generator=generator, dtype=torch.float64)

    def function(x: Tensor, t: Tensor, condition: Any) -> Tensor:
        hidden = torch.tanh(x.flatten(1) @ first + 3.0 * t[:, None] * rates)
        return (hidden @ second).reshape(x.shape)

    return function


def start(scale: float = 1.0) -> Tensor:
    """The common x at t = times[0]."""
    generator = torch.Generator().manual_seed(3)
    return scale * torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def ours(
    solver: str,
    schedule: Schedule,
    prediction: str,
    times: Tensor,
    x: Tensor,
    *,
    constraint: Constraint | None = None,
    seed: int = 7,
    **options: Any,
) -> list[Tensor]:
    """x after each step of our solver."""
    steps: list[Tensor] = []

    def record(info: StepInfo) -> None:
        steps.append(info.x)

    denoise = Denoiser(network(), schedule, prediction_by_name(prediction))
    generator = torch.Generator().manual_seed(seed)
    solver_by_name(solver)(
        denoise, x, times, generator=generator, callback=record, constraint=constraint, **options
    )
    return steps


def difference(first: list[Tensor], second: list[Tensor]) -> float:
    """Largest difference over all steps, relative to values above 1."""
    assert len(first) == len(second), f"{len(first)} and {len(second)} steps"
    return max(
        float(((a - b).abs() / b.abs().clamp(min=1.0)).max()) for a, b in zip(first, second, strict=True)
    )


def _grid_network(count: int) -> Callable[[Tensor, Any], Tensor]:
    """The network as diffusers calls it, with the index k of a K-step grid: t = (k + 1) / K."""
    net = network()

    def function(x: Tensor, index: Any) -> Tensor:
        return net(x, torch.full((x.shape[0],), (float(index) + 1.0) / count, dtype=torch.float64), None)

    return function


_FORMS = {"noise": "epsilon", "sample": "sample", "v": "v_prediction"}
_BETAS = {"squared_cosine": "squaredcos_cap_v2", "discrete_linear": "linear"}


def _grid(name: str, count: int) -> Schedule:
    return VPSquaredCosine(count) if name == "squared_cosine" else VPDiscreteLinear(count)


def ddpm(
    name: str = "squared_cosine",
    prediction: str = "noise",
    count: int = 50,
    clip: bool = False,
    large: bool = False,
) -> float:
    """DDPMScheduler over its full grid."""
    with in_double("scheduling_ddpm") as module:
        oracle = module.DDPMScheduler(
            count,
            beta_schedule=_BETAS[name],
            prediction_type=_FORMS[prediction],
            clip_sample=clip,
            variance_type="fixed_large" if large else "fixed_small",
        )
        oracle.set_timesteps(count)
        net, x, theirs = _grid_network(count), start(), []
        for index in oracle.timesteps:
            x = oracle.step(net(x, index), index, x).prev_sample
            theirs.append(x)
    schedule = _grid(name, count)
    mine = ours(
        "ddpm",
        schedule,
        prediction,
        spacing("uniform")(schedule, count),
        start(),
        constraint=Clip(-1.0, 1.0) if clip else None,
        variance="large" if large else "small",
    )
    return difference(mine, theirs)


def ddim(
    name: str = "squared_cosine",
    prediction: str = "noise",
    eta: float = 0.0,
    layout: str = "leading",
    count: int = 100,
    steps: int = 10,
) -> float:
    """DDIMScheduler on a sub-sequence."""
    with in_double("scheduling_ddim") as module:
        oracle = module.DDIMScheduler(
            count,
            beta_schedule=_BETAS[name],
            prediction_type=_FORMS[prediction],
            clip_sample=False,
            timestep_spacing=layout,
        )
        oracle.set_timesteps(steps)
        net, x, theirs = _grid_network(count), start(), []
        for index in oracle.timesteps:
            x = oracle.step(net(x, index), index, x, eta=eta).prev_sample
            theirs.append(x)
    schedule = _grid(name, count)
    times = spacing("discrete", layout=layout)(schedule, steps)
    return difference(ours("ddim", schedule, prediction, times, start(), eta=eta), theirs)


def dpm_multistep(
    algorithm: str = "dpmsolver++",
    order: int = 2,
    name: str = "discrete_linear",
    steps: int = 20,
    count: int = 1000,
) -> float:
    """DPMSolverMultistepScheduler, deterministic and SDE forms, ending at sigma = 0."""
    with in_double("scheduling_dpmsolver_multistep") as module:
        oracle = module.DPMSolverMultistepScheduler(
            count,
            beta_schedule=_BETAS[name],
            algorithm_type=algorithm,
            solver_order=order,
            final_sigmas_type="zero" if "++" in algorithm else "sigma_min",
            timestep_spacing="leading",
            lower_order_final=False,
        )
        oracle.set_timesteps(steps)
        net, x, theirs = _grid_network(count), start(), []
        for index in oracle.timesteps:
            x = oracle.step(net(x, index), index, x).prev_sample
            theirs.append(x)
        indices = oracle.timesteps.double()
    schedule = _grid(name, count)
    times = torch.cat([(indices + 1.0) / count, torch.zeros(1, dtype=torch.float64)])
    if (
        "++" not in algorithm
    ):  # this scheduler cannot end at sigma = 0 in the noise form: compare all steps before the last
        times, theirs = times[:-1], theirs[:-1]
    stem = "dpmpp" if "++" in algorithm else "dpm" if "sde" in algorithm else "dpm_solver"
    solver = f"{stem}_sde_{'1' if order == 1 else '2m'}" if "sde" in algorithm else f"{stem}_{order}m"
    return difference(ours(solver, schedule, "noise", times, start()), theirs)


def edm_euler(steps: int = 12, churn: float = 0.0) -> float:
    """EDMEulerScheduler on the Karras grid, with its preconditioning of inputs and outputs."""
    schedule = EDM()
    net = network()

    def call(x: Tensor, ratio: Tensor) -> Tensor:
        t = (ratio / schedule.sigma_max) ** (1.0 / schedule.rho)
        return net(x, t.expand(x.shape[0]), None)

    generator = torch.Generator().manual_seed(7)
    with in_double("scheduling_edm_euler") as module:
        oracle = module.EDMEulerScheduler(
            sigma_min=schedule.sigma_min, sigma_max=schedule.sigma_max, sigma_data=0.5, rho=schedule.rho
        )
        oracle.set_timesteps(steps)
        x, theirs = start(schedule.sigma_max), []
        options = {"s_churn": churn, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}
        for i, index in enumerate(oracle.timesteps):
            ratio, clean = oracle.sigmas[i], None
            if churn > 0.0 and 0.05 <= ratio <= 50.0:
                # The scheduler adds noise after the network was called; the paper calls it on the noised sample.
                raised = ratio * (1.0 + min(churn / steps, math.sqrt(2.0) - 1.0))
                moved = x + 1.003 * noise_like(x, generator) * (raised**2 - ratio**2) ** 0.5
                output = call(oracle.precondition_inputs(moved, raised), raised)
                clean = oracle.precondition_outputs(moved, output, raised)
            output = call(oracle.scale_model_input(x, index), ratio)
            x = oracle.step(output, index, x, pred_original_sample=clean, **options).prev_sample
            theirs.append(x)
    times = spacing("karras")(schedule, steps)
    mine = ours(
        "edm_euler", schedule, "edm", times, start(schedule.sigma_max), churn=Churn(churn, 0.05, 50.0, 1.003)
    )
    return difference(mine, theirs)


def heun(steps: int = 20, count: int = 1000, name: str = "discrete_linear") -> float:
    """HeunDiscreteScheduler (Karras et al. 2022, Alg. 2 without churn) over a VP model: its sample is x / alpha."""
    schedule = _grid(name, count)
    with in_double("scheduling_heun_discrete") as module:
        oracle = module.HeunDiscreteScheduler(
            count,
            beta_start=1e-4,
            beta_end=0.02,
            beta_schedule=_BETAS[name],
            prediction_type="epsilon",
            timestep_spacing="leading",
        )
        oracle.set_timesteps(steps)
        # Its list holds the first time once and every later one twice.
        grid = [(float(oracle.timesteps[i]) + 1.0) / count for i in (0, *range(1, 2 * steps - 1, 2))] + [0.0]
        net = _grid_network(count)
        theirs: list[Tensor] = []
        y = start() / scalars(schedule, grid[0]).alpha
        for i, index in enumerate(oracle.timesteps):
            y = oracle.step(net(oracle.scale_model_input(y, index), index), index, y).prev_sample
            if i % 2 == 1 or i == len(oracle.timesteps) - 1:
                theirs.append(y * scalars(schedule, grid[len(theirs) + 1]).alpha)
    return difference(
        ours("edm_heun", schedule, "noise", torch.tensor(grid, dtype=torch.float64), start()), theirs
    )


def flow_euler(steps: int = 12, shift: float = 1.0) -> float:
    """FlowMatchEulerDiscreteScheduler, with its shifted grid."""
    net = network()
    with in_double("scheduling_flow_match_euler_discrete") as module:
        oracle = module.FlowMatchEulerDiscreteScheduler(1000, shift=shift)
        oracle.set_timesteps(steps)
        x, theirs = start(), []
        for i, index in enumerate(oracle.timesteps):
            output = net(x, oracle.sigmas[i].expand(x.shape[0]), None)
            x = oracle.step(output, index, x).prev_sample
            theirs.append(x)
        times = oracle.sigmas.double()
    return difference(ours("euler", RectifiedFlow(), "velocity", times, start()), theirs)


ORACLES: dict[str, Callable[[], float]] = {
    "ddpm squared_cosine noise": ddpm,
    "ddpm squared_cosine sample clipped": lambda: ddpm(prediction="sample", clip=True),
    "ddpm discrete_linear v": lambda: ddpm("discrete_linear", "v"),
    "ddpm discrete_linear large variance": lambda: ddpm("discrete_linear", large=True),
    "ddim leading": ddim,
    "ddim eta 0.5 trailing": lambda: ddim(eta=0.5, layout="trailing"),
    "ddim eta 1 v": lambda: ddim("discrete_linear", "v", eta=1.0),
    "dpmpp 2m": dpm_multistep,
    "dpmpp 2m squared_cosine": lambda: dpm_multistep(name="squared_cosine", steps=10, count=100),
    "dpm_solver 2m": lambda: dpm_multistep("dpmsolver"),
    "dpmpp sde 1": lambda: dpm_multistep("sde-dpmsolver++", order=1),
    "dpmpp sde 2m": lambda: dpm_multistep("sde-dpmsolver++"),
    "dpm sde 2m": lambda: dpm_multistep("sde-dpmsolver"),
    "edm euler": edm_euler,
    "edm euler churn": lambda: edm_euler(churn=4.0),
    "edm heun": heun,
    "flow euler": flow_euler,
    "flow euler shifted": lambda: flow_euler(shift=3.0),
}
