"""One chunk at batch 1: the engine's back ends against a plain eager U-Net with a stock scheduler.

Same weights, same noise, same DDIM steps, taken in turn in one process. Every candidate is at its best setting: the opponent
runs under inference_mode with its scheduler prepared once. The floor is the time to read the weights once per step
from memory, measured in the same run.

Success: a U-Net trained on Lift through the stock way's solver steps in plain PyTorch, and through the fp32, bf16 and int8
back ends, on the same seeds; then with few steps, whose chunk time against the stock chunk of the same weights is chunk.ratio.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks._engine_lift import LiftConfig, success, trained, unet_of
from benchmarks._stock_unet import from_ours
from diffbot.control.engine import accelerate
from diffbot.diffusion import Denoiser, VPSquaredCosine, prediction_by_name, solver_by_name, spacing_by_name
from diffbot.errors import require
from diffbot.evaluation.bench import BenchResult, interleave
from diffbot.evaluation.evaluate import EVALUATION_SEED
from diffbot.networks import Condition, build, network_config
from diffbot.networks.unet import UNet

SUMMARY = "time of one chunk: engine back ends against a plain eager U-Net with a stock scheduler"
CPU = torch.device("cpu")
SIZES = {"large": (256, 512, 1024), "small": (32, 64, 128)}
# figure name -> (back end, bytes per weight that it must read)
CANDIDATES = {
    "eager": ("eager", 4),
    "fp32": ("openvino", 4),
    "bf16": ("openvino-bf16", 2),
    "int8": ("openvino-int8", 1),
}
K = 100  # training steps of the schedule, as in Diffusion Policy
STREAM = 64_000_000  # floats read to measure the memory's speed


@dataclass(frozen=True)
class Config(LiftConfig):
    steps: int = 16  # DDIM steps of a chunk
    few_steps: int = 1  # steps of the few-step sampler
    stock_steps: int = 50  # DDIM steps of the stock chunk in chunk.ratio
    chunks: int = 30  # chunks timed per candidate
    horizon: int = 16  # steps of a chunk
    action: int = 10  # entries of an action
    observation: int = 46  # width of the condition: 2 observations of 23 numbers
    sizes: tuple[str, ...] = ("large", "small")  # U-Nets to measure
    threads: int = 0  # torch threads, all cores when 0


def run(config: Config) -> BenchResult:
    """Figures per size and candidate: median and p99 in ms, ratio of medians to the stock one, error, times the floor."""
    torch.set_num_threads(config.threads or torch.get_num_threads())
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    for size in config.sizes:
        net = unet(config, SIZES[size])
        weights = sum(p.numel() for p in net.parameters())
        stock = stock_chunk(net, config)
        ours = {
            name: engine_chunk(net, backend, config.steps, config)
            for name, (backend, _) in CANDIDATES.items()
        }
        few = {
            f"{name}.few": engine_chunk(net, CANDIDATES[name][0], config.few_steps, config)
            for name in ("fp32", "int8")
        }
        memory = torch.ones(STREAM)
        everything: dict[str, Callable[[], Tensor]] = {"stock": stock, **ours, **few, "stream": memory.sum}
        seconds = interleave(everything, config.chunks, warmup=3)
        bandwidth = 4.0 * STREAM / float(torch.tensor(seconds["stream"]).median())
        expected = stock()
        opponent = _ms(seconds["stock"], 0.5)
        figures[f"{size}.parameters"] = weights
        figures[f"{size}.stock.median_ms"], figures[f"{size}.stock.p99_ms"] = (
            opponent,
            _ms(seconds["stock"], 0.99),
        )
        for name, chunk in {**ours, **few}.items():
            median, p99 = _ms(seconds[name], 0.5), _ms(seconds[name], 0.99)
            ratio = opponent / median
            row: dict[str, float | str] = {
                "size": size,
                "candidate": name,
                "median_ms": median,
                "p99_ms": p99,
                "ratio": ratio,
            }
            if name in ours:
                floor = 1e3 * config.steps * weights * CANDIDATES[name][1] / bandwidth
                row |= {"floor_ms": floor, "error": float((chunk() - expected).abs().max())}
                figures[f"{size}.{name}.floor_factor"] = median / floor
                figures[f"{size}.{name}.error"] = row["error"]
            figures[f"{size}.{name}.median_ms"], figures[f"{size}.{name}.p99_ms"] = median, p99
            figures[f"{size}.{name}.ratio"] = ratio
            rows.append(row)
        if size == "large":
            figures["memory_gb_per_s"] = bandwidth / 1e9
    seeds = [0]
    notes = f"Chunks: {config.steps} DDIM steps, '.few' {config.few_steps}. "
    if config.success:
        seeds = list(range(EVALUATION_SEED, EVALUATION_SEED + config.episodes))
        notes += on_lift(config, figures, rows)
    return BenchResult(figures, rows, seeds, notes + "Figures in ms are of this machine; compare ratios.")


def on_lift(config: Config, figures: dict[str, float | int | str | bool], rows: list[dict[str, Any]]) -> str:
    """Success of one trained policy by back end and steps, and the time of its few-step chunk. Returns a note."""
    threads = torch.get_num_threads()
    loaded = trained(config)
    torch.set_num_threads(threads)  # a continued training brings its own number
    net = unet_of(loaded).eval().requires_grad_(False)
    arms = {
        "stock": ("eager", config.stock_steps),
        **{name: (backend, config.steps) for name, (backend, _) in CANDIDATES.items() if name != "eager"},
        "few": ("openvino", config.few_steps),
    }
    for name, (backend, steps) in arms.items():
        record = success(config, loaded, backend, steps)
        low, high = record["interval"]
        figures[f"lift.{name}.success"] = record["success"]
        rows.append(
            {
                "size": "lift",
                "candidate": f"{name}, {steps} steps",
                "success": f"{record['success']:.2f} [{low:.2f}, {high:.2f}]",
            }
        )
    prediction = loaded.config.prediction
    sizes = dataclasses.replace(
        config,
        steps=config.stock_steps,
        horizon=net.sizes.length,
        action=net.sizes.channels,
        observation=net.sizes.condition_dim,
    )
    chunks = {
        "stock": stock_chunk(net, sizes, prediction),
        "few": engine_chunk(net, "openvino", config.few_steps, sizes, prediction),
    }
    seconds = interleave(chunks, config.chunks, warmup=3)
    for name in chunks:
        figures[f"lift.{name}.median_ms"] = _ms(seconds[name], 0.5)
    figures["chunk.ratio"] = _ms(seconds["stock"], 0.5) / _ms(seconds["few"], 0.5)
    weights = sum(p.numel() for p in net.parameters())
    figures["lift.parameters"] = weights
    return (
        f"Success on Lift is that of a U-Net {list(net.config.down_dims)} with {weights / 1e6:.1f} M weights, not of the "
        f"large one. chunk.ratio: its {config.stock_steps} stock steps over {config.few_steps} step(s) of the exact engine. "
    )


def unet(config: Config, dims: tuple[int, ...]) -> UNet:
    """The conditional U-Net of Diffusion Policy with random weights."""
    settings = network_config("unet", {"down_dims": list(dims)})
    net = build(settings, (config.horizon, config.action), config.observation, generator=0)
    assert isinstance(net, UNet)
    return net.eval().requires_grad_(False)


def inputs(config: Config) -> tuple[Tensor, Tensor]:
    """Noise [1, H, A] and condition [1, D], always the same."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, config.horizon, config.action, generator=generator)
    return noise, torch.randn(1, config.observation, generator=generator)


def stock_chunk(net: UNet, config: Config, prediction: str = "noise") -> Callable[[], Tensor]:
    """Plain eager network, `diffusers` DDIM. prediction: what the network outputs, in diffbot's words."""
    diffusers = require("diffusers", "dev", "the stock scheduler")
    stock = from_ours(net)
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=K,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=True,
        set_alpha_to_one=True,
        prediction_type={"noise": "epsilon", "v": "v_prediction", "sample": "sample"}[prediction],
    )
    scheduler.set_timesteps(config.steps)
    noise, condition = inputs(config)

    def chunk() -> Tensor:
        with torch.inference_mode():
            x = noise
            for k in scheduler.timesteps:
                # diffbot counts times from 1/K; the stock index k is time (k + 1) / K.
                output = stock(x, (k + 1.0).expand(len(x)), condition)
                x = scheduler.step(output, k, x, use_clipped_model_output=True).prev_sample
            return x

    return chunk


def engine_chunk(
    net: UNet, backend: str, steps: int, config: Config, prediction: str = "noise"
) -> Callable[[], Tensor]:
    """The same chunk through diffbot: its solver on its engine."""
    from diffbot.diffusion import Clip

    network = copy.deepcopy(net)
    holder = torch.nn.ModuleDict({"network": network})
    accelerate(holder, backend, CPU)
    schedule = VPSquaredCosine(steps=K)
    times = spacing_by_name("discrete")(schedule, steps)
    solve, output = solver_by_name("ddim"), prediction_by_name(prediction)
    noise, condition = inputs(config)

    def chunk() -> Tensor:
        with torch.inference_mode():
            # A fresh condition for each chunk, as a policy makes it.
            denoise = Denoiser(network, schedule, output, Condition(condition.clone()))
            return solve(denoise, noise, times, constraint=Clip(-1.0, 1.0))

    return chunk


def _ms(seconds: object, quantile: float) -> float:
    return 1e3 * float(torch.as_tensor(seconds).quantile(quantile))
