"""Transitions per second of our sampler beside the published one, at equal one-step dynamics error.

One SynthER is trained on recorded transitions. The published way draws from it with Heun, 128 steps and churn (Lu et al.
2023), one eager network call at a time in its batch of 1000; ours with the solver and steps of the settings. Both run in turn
in one process with the same weights, batch and threads. Error: the simulator is put into each s and given a, and its s' is
compared with the transition's.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffbot.cli.synthesize import draw, gather
from diffbot.data.store import EpisodeStore
from diffbot.evaluation.bench import BenchResult, interleave
from diffbot.evaluation.synthesis import dynamics_error, quality
from diffbot.methods.bundle import LoadedPolicy, load_bundle
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

SUMMARY = "synthesized transitions per second against the published sampler, at equal dynamics error"


@dataclass(frozen=True)
class Config:
    """What is learned and drawn. A finished training in `folder` is used again."""

    task: str = "pointmaze/umaze"
    recipe: str = "pointmaze-umaze"  # datasets/recipes
    dataset: str = ""  # a dataset to use instead of the recipe's
    folder: str = "runs/bench_synthesis"
    steps: int = 4000  # gradient steps
    width: int = 512
    depth: int = 6
    solver: str = "dpmpp_2m"  # ours
    solver_steps: int = 20
    published_steps: int = 128
    batch: int = 1000  # transitions drawn at once, by both
    samples: int = 2000  # for the errors
    repeats: int = 7  # timed batches of each
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)  # further settings of the method


def run(config: Config) -> BenchResult:
    """Train when needed, time both samplers in turn, compare their samples with the simulator."""
    import sim_envs

    dataset = _dataset(config)
    bundle = _train(config, dataset)
    ours = load_bundle(bundle)
    method: Any = ours.method
    published = Published(method, config.published_steps)

    def timed(sampler: Any) -> Any:
        generator = torch.Generator().manual_seed(1)
        return lambda: sampler(config.batch, generator=generator)

    seconds = interleave(
        {"ours": timed(method.synthesize), "published": timed(published.synthesize)}, config.repeats, warmup=1
    )
    store = EpisodeStore.open(dataset)
    keys = tuple(method.keys)
    real = gather(store, 4 * config.samples, config.seed)
    env: Any = sim_envs.make(config.task)
    figures: dict[str, float | int | str | bool] = {}
    rows = []
    try:
        recorded = dynamics_error(env, real, real, keys)
        figures["real.dynamics_error"] = recorded.median
        for name, sampler in (("ours", method.synthesize), ("published", published.synthesize)):
            made = _draw(ours, sampler, config)
            error = dynamics_error(env, real, made, keys)
            found = quality(real, made, keys, seed=config.seed, most=config.samples)
            median = float(np.median(seconds[name]))
            figures |= {
                f"{name}.transitions_per_s": config.batch / median,
                f"{name}.dynamics_error": error.median,
                f"{name}.dynamics_error_p90": float(np.quantile(error.error, 0.9)),
                f"{name}.marginal": found.marginal,
                f"{name}.coverage": found.coverage,
            }
            rows.append(
                {
                    "sampler": name,
                    "evaluations": _evaluations(name, config),
                    "transitions_per_s": config.batch / median,
                    "error": f"{error.median:.4f}",
                    "spread_s": f"{seconds[name].min():.3f}..{seconds[name].max():.3f}",
                    **{k: round(v, 3) for k, v in found.record().items()},
                }
            )
    finally:
        env.close()
    figures["transitions_per_s.ratio"] = float(np.median(seconds["published"]) / np.median(seconds["ours"]))
    figures["dynamics_error.ratio"] = float(
        figures["ours.dynamics_error"] / figures["published.dynamics_error"]  # type: ignore[operator]
    )
    return BenchResult(figures, rows, [config.seed], (__doc__ or "").split("\n\n", 1)[1].strip())


class Published:
    """The sampler of the paper, written plainly: Karras et al. 2022, Alg. 2, with SynthER's S_churn 80 and 128 steps.

    Time embedding, preconditioning and guards are computed anew at each of its network calls.
    """

    churn, low, high, noise = 80.0, 0.05, 50.0, 1.003
    sigma_min, sigma_max, rho = 0.002, 80.0, 7.0

    def __init__(self, method: Any, steps: int) -> None:
        self.method, self.steps = method, steps
        self.network: nn.Module = method.model["network"]

    @torch.no_grad()
    def synthesize(self, count: int, *, generator: torch.Generator) -> Any:
        ramp = torch.linspace(0, 1, self.steps)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigmas = torch.cat([(high + ramp * (low - high)) ** self.rho, torch.zeros(1)])
        x = torch.randn(count, self.method.vector.dim, generator=generator) * sigmas[0]
        for sigma, following in itertools.pairwise(sigmas):
            inside = self.low <= float(sigma) <= self.high
            gamma = min(self.churn / self.steps, 2**0.5 - 1) if inside else 0.0
            raised = sigma + gamma * sigma
            fresh = torch.randn(x.shape, generator=generator) * self.noise
            x = x + torch.sqrt(raised**2 - sigma**2) * fresh
            slope = (x - self.denoise(x, raised)) / raised
            ahead = x + (following - raised) * slope
            if following > 0:
                other = (ahead - self.denoise(ahead, following)) / following
                ahead = x + (following - raised) * 0.5 * (slope + other)
            x = ahead
        return self.method.vector.unpack(x, self.method.rewards)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; sigma) of Karras et al. 2022, Eq. 7, with the network's own time."""
        data = self.method.config.sigma_data
        total = sigma**2 + data**2
        log_snr = -2.0 * torch.log(sigma)
        t = self.method.schedule.time(log_snr).expand(len(x))
        output = self.network(x / torch.sqrt(total), t, None)
        return data**2 / total * x + sigma * data / torch.sqrt(total) * output


def _draw(policy: LoadedPolicy, sampler: Any, config: Config) -> dict[str, np.ndarray]:
    """Samples as rows, through the same inverse transforms for both samplers."""
    method: Any = policy.method
    kept = method.synthesize
    method.synthesize = sampler
    try:
        return draw(policy, config.samples, [config.seed, 7])[0]
    finally:
        method.synthesize = kept


def _evaluations(name: str, config: Config) -> int:
    return config.solver_steps if name == "ours" else 2 * config.published_steps - 1


def _dataset(config: Config) -> Path:
    if config.dataset:
        return Path(config.dataset)
    from diffbot.cli.collect import run as collect
    from diffbot.cli.collect_config import CollectConfig

    path = Path(config.folder) / f"{config.recipe}.zarr"
    if not path.exists():
        collect(CollectConfig(recipe=config.recipe, out=str(path)))
    return path


def _train(config: Config, dataset: Path) -> Path:
    folder = Path(config.folder) / "run"
    if (folder / "run.yaml").exists():
        return runs.resume(folder, steps=config.steps).bundle
    options = {
        "network_options": {"width": config.width, "depth": config.depth},
        "solver": config.solver,
        "inference_steps": config.solver_steps,
        **config.options,
    }
    training = TrainingConfig(steps=config.steps, batch_size=512, validation=0.0, tensorboard=False)
    spec = runs.RunSpec("synther", build_config("synther", options), dataset, training, config.seed)
    start = time.monotonic()
    result = runs.start(spec, folder).finished()
    print(f"trained {config.steps} steps in {time.monotonic() - start:.0f} s")
    return result.bundle
