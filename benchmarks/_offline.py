"""What the rows of offline reinforcement share: mixed datasets, arms with equal networks and steps, scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._learned import losses, roll_out, score
from benchmarks._rows import Arm, Job, Outcome, Results, Study
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

DATASET = "mixed.zarr"
BASELINES = ("bc", "td3_bc", "iql")
METHODS = {"bc": "bc_mlp", "td3_bc": "td3_bc", "iql": "iql", "diffusion_ql": "diffusion_ql", "idql": "idql"}


@dataclass(frozen=True)
class Data:
    """A mixed dataset and how policies are tried on its task. Settings are the same for all arms but where `own` says.

    collect: of `diffbot collect`. chunk: actions in a row that every policy predicts and executes (1 as published).
    offline: settings of every arm that learns from rewards. own: further settings by arm.
    """

    name: str
    task: str
    collect: Mapping[str, Any]
    steps: int
    episodes: int
    chunk: int = 1
    offline: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 256


def study(data: Data, arms: Sequence[str], width: int, seeds: tuple[int, ...] = (0, 1, 2)) -> Study:
    """All arms on one dataset: `data.steps` gradient steps each, hidden layers of `width`."""
    made = []
    for arm in arms:
        given = {
            "method": METHODS[arm],
            "options": options(data, arm, width),
            "task": data.task,
            "steps": data.steps,
            "episodes": data.episodes,
            "batch_size": data.batch_size,
            "env": dict(data.env),
        }
        made.append(Arm(arm, partial(run_arm, **given), {**given, "collect": dict(data.collect)}))
    about = (
        f"{', '.join(f'{k} {v}' for k, v in data.collect.items())}; chunks of {data.chunk}; {data.steps} steps of "
        f"{data.batch_size}; hidden layers of {width}; {data.episodes} episodes a seed"
    )
    return Study(data.name, "normalised score", tuple(made), seeds, partial(prepare, data=data), about)


def options(data: Data, arm: str, width: int) -> dict[str, Any]:
    """The settings of one arm."""
    chunk = {"horizon": data.chunk, "action_horizon": data.chunk}
    if arm == "bc":
        return {**chunk, "width": width, "depth": 2, **data.own.get(arm, {})}
    common = {**chunk, "critic": {"width": width}, **data.offline}
    if arm in ("td3_bc", "iql"):
        networks: dict[str, Any] = {"width": width, "depth": 2}
    elif arm == "diffusion_ql":
        plain = {"depth": 3, "residual": False, "time_dim": 16, "time_scale": 5.0}
        networks = {
            "network_options": {"width": width, **plain},
            "critic": {"width": width, "activation": "mish"},
        }
    else:
        # Hidden layers are four times as wide as the residual stream: two blocks of half the width weigh about as much as
        # the other denoiser.
        networks = {"network_options": {"width": width // 2, "blocks": 2, "time_dim": 32, "dropout": 0.0}}
    return {**common, **networks, **data.own.get(arm, {})}


def prepare(shared: Path, *, data: Data) -> None:
    """Record the dataset, or go on where that stopped."""
    from diffbot.cli.collect import run as collect
    from diffbot.cli.collect_config import CollectConfig

    collect(CollectConfig(**data.collect, out=str(shared / DATASET), workers="1"))


def run_arm(
    job: Job,
    *,
    method: str,
    options: Mapping[str, Any],
    task: str,
    steps: int,
    episodes: int,
    batch_size: int,
    env: Mapping[str, Any],
) -> Outcome:
    """One training and its evaluation; the time of both is CPU time."""
    config = TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        threads=1,
        validation=0.0,
        tensorboard=False,
        log_every=max(1, steps // 20),
        checkpoint_every=steps,
    )
    spec = runs.RunSpec(
        method, build_config(method, dict(options)), job.shared / DATASET, config, job.seed, task
    )
    start = time.process_time()
    result = runs.start(spec, job.folder / "run").finished()
    train_s = time.process_time() - start
    found = roll_out(result.bundle, task, episodes, seed=job.seed, env=env)
    logged = losses(job.folder / "run")
    figures = {"eval_episodes": float(len(found)), "success": float(np.mean([e.success for e in found]))}
    if method == "bc_mlp":  # the losses of the others move with their values, so that a fall says nothing
        figures |= logged
    return Outcome(score(task, found), train_s, result.parameters, figures)


def averages(results: Results, arms: Sequence[str], only: str = "") -> dict[str, float]:
    """Mean score of each arm over the studies with `only` in their names; arms that were not run are left out."""
    names = [name for name in dict.fromkeys(name for name, _ in results.outcomes) if only in name]
    run = [arm for arm in arms if all((name, arm) in results.outcomes for name in names)]
    return {arm: float(np.mean([results.mean(name, arm) for name in names])) for arm in run}
