"""`diffbot evaluate`: success of a policy on fixed seeds, with an interval, a video and curves."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffbot.cli.verb import Verb
from diffbot.data.contract import Contract
from diffbot.errors import BundleError, ConfigError


@dataclass(frozen=True)
class LatencyConfig:
    """Delays of the simulated robot; all zero is the ideal one."""

    observation: float = 0.0  # s, from measuring to the policy seeing it
    inference: float = 0.0  # s, from that to the chunk's arrival
    actuation: float = 0.0  # s, from command to effect
    jitter: float = 0.0  # standard deviation of each delay as a fraction of it
    drop: float = 0.0  # probability that an observation is lost


@dataclass(frozen=True)
class EvaluateConfig:
    """Rollouts of one policy bundle."""

    policy: str = "???"  # bundle folder, or the run that holds it
    episodes: int = 50  # number of seeds
    seed: int = 100000  # first environment seed; demonstrations use seeds from 0 up
    policy_seed: int = 0  # seed of the policy's own noise
    task: str = ""  # default: the task that the policy was trained on
    horizon: int = 0  # control steps; 0: the task's own
    workers: int = 0  # processes; 0: one per core
    stitching: str = "switch"  # how a new chunk takes over: switch, blend, ensemble or rtc
    action_horizon: int = 0  # steps between inferences; 0: the policy's own
    backend: str = "auto"  # inference engine
    latency: LatencyConfig = field(default_factory=LatencyConfig)  # delays of the simulated robot
    video: int = 3  # episodes to film; 0 renders nothing
    camera: str = ""  # default: the task's first camera
    out: str = ""  # default: evaluation/ beside the policy


def run(config: EvaluateConfig) -> int:
    """Evaluate, print success with its interval, write report.json, rollouts.mp4, frames.png and signals.png."""
    from diffbot.control import Latency
    from diffbot.evaluation.evaluate import RolloutSettings, evaluate, summarize
    from diffbot.methods.bundle import load_bundle

    if config.episodes < 1:
        raise ConfigError(f"episodes must be at least 1, got {config.episodes}")
    policy = find_bundle(config.policy)
    contract = load_bundle(policy).contract
    task = config.task or contract.task
    make_env, spec = task_environment(contract, task)
    seeds = list(range(config.seed, config.seed + config.episodes))
    camera = config.camera or (_first_camera(make_env) if config.video else "")
    settings = RolloutSettings(
        horizon=config.horizon or spec.horizon,
        seed=config.policy_seed,
        stitching=config.stitching,
        action_horizon=config.action_horizon or None,
        backend=config.backend,
        latency=Latency(**vars(config.latency)),
        film=frozenset(seeds[: config.video]),
        camera=camera,
    )
    out = Path(config.out) if config.out else policy.parent / "evaluation"
    episodes = []
    columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("evaluate", total=len(seeds), rate="")
        for episode in evaluate(make_env, policy, seeds, settings, config.workers):
            episodes.append(episode)
            successes = sum(e.success for e in episodes)
            progress.update(bar, advance=1, rate=f"success {successes}/{len(episodes)}")
    record = summarize(episodes) | {"task": task, "policy": str(policy), "contract": contract.hash()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(record, indent=1) + "\n")
    _pictures(out, sorted(episodes, key=lambda e: e.seed), spec.rate, contract.action.names)
    low, high = record["interval"]
    Console().print(
        f"success {record['success']:.3f}, 95 % interval [{low:.3f}, {high:.3f}], {len(episodes)} episodes of {task} "
        f"on seeds {seeds[0]}..{seeds[-1]}\nwritten: {out}"
    )
    return 0


def task_environment(contract: Contract, task: str = "") -> tuple[Callable[[], Any], Any]:
    """A picklable factory of the environment that a policy was trained for, and the task's specification.

    Images, controller and action mode follow from the contract. task: instead of the one that the contract names.
    Raises ConfigError or SimEnvError where there is none.
    """
    import sim_envs

    if not task and not contract.task:
        raise ConfigError("the policy's dataset names no task; name one: task=robosuite/lift")
    spec = sim_envs.spec(task or contract.task)
    options = sim_envs.matching_options(spec.id, contract.to_dict())
    return functools.partial(sim_envs.make, spec.id, **options), spec


def find_bundle(path: str) -> Path:
    """The bundle folder: `path` itself or `path`/policy. Raises BundleError when there is neither."""
    for folder in (Path(path), Path(path) / "policy"):
        if (folder / "policy.safetensors").exists() or (folder / "manifest.json").exists():
            return folder
    raise BundleError(
        f"no policy bundle at '{path}'. A bundle is the folder policy/ that `diffbot train` writes into its run folder."
    )


def _first_camera(make_env: Any) -> str:
    env = make_env()
    try:
        cameras = env.unwrapped.available_cameras
        return cameras[0] if cameras else ""
    finally:
        env.close()


def _pictures(out: Path, episodes: list[Any], rate: float, names: tuple[str, ...]) -> None:
    import matplotlib.image
    import numpy as np

    from diffbot.evaluation.figures import signals
    from diffbot.evaluation.video import contact_sheet, write_video

    filmed = [episode.frames for episode in episodes if episode.frames]
    if filmed:
        write_video(out / "rollouts.mp4", [frame for frames in filmed for frame in frames], rate)
        matplotlib.image.imsave(out / "frames.png", contact_sheet(filmed))
    first = episodes[0]
    time = np.arange(len(first.actions)) / rate
    figure = signals(time, first.actions, names, time[first.seams])
    figure.savefig(out / "signals.png", dpi=110, bbox_inches="tight")


VERB = Verb(
    "roll a policy out in simulation on fixed seeds",
    EvaluateConfig,
    run,
    (
        "diffbot evaluate policy=runs/lift/policy episodes=50",
        "diffbot evaluate policy=runs/lift/policy stitching=rtc latency.inference=0.2 latency.jitter=0.3",
    ),
)
