"""`diffbot train`: train a method on a dataset, or on its own steps in a task, and write a policy bundle."""

from __future__ import annotations

import dataclasses
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from diffbot.cli.config import group
from diffbot.cli.verb import Verb
from diffbot.errors import ConfigError, DataError
from diffbot.training.config import TrainingConfig
from diffbot.training.online_config import OnlineConfig

FIRST_ROLLOUT_SEED = 200_000


@dataclass(frozen=True)
class TrainConfig:
    """Which method learns what from which episodes."""

    task: str = ""  # such as robosuite/lift; decides the dataset when that is not given
    method: Any = group("method", "diffusion_policy")
    dataset: str | None = None  # zarr folder; default datasets/<last part of task>.zarr
    out: str | None = None  # run folder; default runs/<task>_<method>
    seed: int = 0  # of the initial weights, the order of the data and the noise
    resume: str | None = None  # run folder to continue; only its budget may change
    training: TrainingConfig = field(default_factory=TrainingConfig)
    # Of methods that explore (sac): they learn from their own steps in the task, unless a dataset is given
    online: OnlineConfig = field(default_factory=OnlineConfig)


def run(config: TrainConfig) -> int:
    """Train or resume, and say where the policy is. Exit status 143 or 130 when a signal stopped the run."""
    from diffbot.training import run as runs
    from diffbot.training.online_run import explores, is_online

    console = Console()
    if (
        is_online(Path(config.resume))
        if config.resume
        else config.dataset is None and explores(config.method.name)
    ):
        result = explore(config)
    elif config.resume is not None:
        training = config.training
        _refuse_changes(config)
        result = runs.resume(
            Path(config.resume), steps=training.steps, minutes=training.minutes, rollouts=roll_out
        )
    else:
        spec = runs.RunSpec(
            config.method.name,
            config.method.config,
            dataset_path(config),
            config.training,
            config.seed,
            config.task,
        )
        result = runs.start(spec, run_folder(config), rollouts=roll_out)
    outcome = result.outcome
    found = {name: outcome.metrics[name] for name in ("loss", "return") if name in outcome.metrics}
    loss = "".join(f", {name} {value:.4f}" for name, value in found.items())
    console.print(
        f"{outcome.step} steps in {outcome.seconds:.0f} s, {result.parameters / 1e6:.2f} M weights{loss}",
        highlight=False,
    )
    if outcome.stopped:
        console.print(
            f"stopped by {outcome.stopped}. Continue: diffbot train resume={result.folder}", highlight=False
        )
        return 128 + signal.Signals[outcome.stopped].value
    console.print(f"policy: {result.bundle}", highlight=False, soft_wrap=True)
    return 0


def explore(config: TrainConfig) -> Any:
    """Train a method on its own steps in the task, or resume such a run: a RunResult."""
    import functools

    import sim_envs
    from diffbot.training import online_run

    if config.resume is not None:
        _refuse_changes(config)
        folder = Path(config.resume)
        spec = online_run.read_spec(folder)[0]
        steps = None if config.online == OnlineConfig() else config.online.steps
        make_env = functools.partial(sim_envs.make, spec.task, **spec.online.env)
        return online_run.resume(folder, make_env, steps=steps)
    if not config.task:
        raise ConfigError(
            f"method '{config.method.name}' explores, so it needs a task: diffbot train method={config.method.name} "
            "task=locomotion/hopper; or give the dataset that it shall learn from: dataset=PATH"
        )
    sim_envs.spec(config.task)  # an unknown task is named with its nearest match
    spec = online_run.OnlineSpec(
        config.method.name, config.method.config, config.task, config.online, config.training, config.seed
    )
    make_env = functools.partial(sim_envs.make, config.task, **config.online.env)
    return online_run.start(spec, run_folder(config), make_env)


def roll_out(bundle: Path, episodes: int) -> dict[str, float]:
    """Success of a bundle in its task on seeds of their own, apart from those of demonstrations and of evaluation."""
    import numpy as np

    from diffbot.cli.evaluate import task_environment
    from diffbot.evaluation.evaluate import RolloutSettings, evaluate, summarize
    from diffbot.methods.bundle import load_bundle

    make_env, spec = task_environment(load_bundle(bundle).contract)
    seeds = range(FIRST_ROLLOUT_SEED, FIRST_ROLLOUT_SEED + episodes)
    record = summarize(list(evaluate(make_env, bundle, seeds, RolloutSettings(horizon=spec.horizon))))
    low, high = record["interval"]
    means = {name: float(np.mean(record[name])) for name in ("steps", "rewards")}
    return {"success": record["success"], "low": low, "high": high, **means}


def _refuse_changes(config: TrainConfig) -> None:
    """A resumed run keeps its settings. Raises ConfigError naming those that were given besides the budget."""
    from diffbot.methods.registry import build_config

    usual = dataclasses.replace(config.training, steps=None, minutes=None) == TrainingConfig()
    same = {
        "task": not config.task,
        "dataset": config.dataset is None,
        "out": config.out is None,
        "seed": config.seed == 0,
        "method": config.method.name == "diffusion_policy"
        and config.method.config == build_config("diffusion_policy", {}),
        "training": usual,
        "online": dataclasses.replace(config.online, steps=OnlineConfig().steps) == OnlineConfig(),
    }
    changed = [name for name, unchanged in same.items() if not unchanged]
    if changed:
        raise ConfigError(
            f"a resumed run keeps its {', '.join(changed)}; only its budget (training.steps, training.minutes or online.steps) may change: "
            f"diffbot train resume={config.resume}. For other settings train anew"
        )


def dataset_path(config: TrainConfig) -> Path:
    """The given dataset, or the default one of the task. Raises ConfigError or DataError with the command that helps."""
    if config.dataset is not None:
        return Path(config.dataset)
    if not config.task:
        raise ConfigError(
            "give a task or a dataset: diffbot train task=robosuite/lift, or diffbot train dataset=PATH"
        )
    path = Path("datasets") / f"{config.task.rsplit('/', 1)[-1]}.zarr"
    if not path.exists():
        import sim_envs

        sim_envs.spec(config.task)  # an unknown task is named with its nearest match
        raise DataError(
            f"no dataset at '{path}'. Record one: diffbot collect task={config.task}, or give dataset=PATH"
        )
    return path


def run_folder(config: TrainConfig) -> Path:
    """The given folder, or the first free one of runs/<task>_<method>, runs/<task>_<method>_2, ..."""
    if config.out is not None:
        return Path(config.out)
    stem = config.task.rsplit("/", 1)[-1] or dataset_path(config).stem
    base = Path("runs") / f"{stem}_{config.method.name}"
    folder, number = base, 1
    while (folder / "run.yaml").exists():
        number += 1
        folder = base.with_name(f"{base.name}_{number}")
    return folder


VERB = Verb(
    "train a method on a dataset and write a policy bundle",
    TrainConfig,
    run,
    (
        "diffbot train task=robosuite/lift method=diffusion_policy",
        "diffbot train task=robosuite/lift method.network=unet method.solver=dpmpp_2m training.minutes=10",
        "diffbot train task=robosuite/lift training.rollout_every=2000 training.rollout_episodes=20",
        "diffbot train dataset=datasets/lift.zarr method=bc_mlp training.steps=2000 out=runs/bc",
        "diffbot train task=locomotion/hopper method=sac online.steps=200000",
        "diffbot train resume=runs/lift_diffusion_policy",
    ),
)
