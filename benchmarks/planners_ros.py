"""Planners that drive robots over ROS 2: a Diffuser the ball of the medium maze, a Decision Diffuser the arm (Lift).

Each planner runs the same seeds twice: in process, as `diffbot evaluate` does, and over DDS, where simulator, executor and
policy are processes of their own, as `diffbot ros demo` starts them. success: of both. chunks_equal: whether every chunk
that the node published is bit-identical to the one computed again in process from what the node had observed. agree: the
part of the seeds that end alike; over DDS a chunk arrives some control steps after its observation, in process at once.

Planners that are not given are trained first: a few minutes of one core each, once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._planning import DATASET, DIFFUSER, EPISODES, STEPS, collect_mixed
from benchmarks.rows.p3 import DATASET as DEMONSTRATIONS
from benchmarks.rows.p3 import collect
from diffbot.cli.evaluate import find_bundle, task_environment
from diffbot.control.load import load_contract
from diffbot.errors import unknown
from diffbot.evaluation.bench import BenchResult
from diffbot.evaluation.evaluate import EVALUATION_SEED, RolloutSettings, evaluate
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

SUMMARY = "planners driving PointMaze and an arm over ROS 2, beside the same episodes in process"
MAZE = "pointmaze/medium"
ARM = "robosuite/lift"
# State plans of 0.8 s, of which an inverse model reads the actions; the demonstrations are all of one quality.
ARM_PLANNER = {
    "horizon": 16,
    "action_horizon": 8,
    "network": "mlp",
    "network_options": {"width": 512},
    "prediction": "sample",
    "returns": False,
    "solver": "ddim",
    "inference_steps": 10,
    "inverse_width": 256,
}


@dataclass(frozen=True)
class Robot:
    """One planner and what it is trained on, where no bundle is given."""

    method: str
    options: Mapping[str, Any]
    task: str
    dataset: str
    prepare: Callable[[Path], None]
    training: Mapping[str, Any] = field(default_factory=dict)


ROBOTS = {
    "maze": Robot(
        "diffuser",
        {**DIFFUSER, "inference_steps": 5},  # half the time of a chunk, the same success
        MAZE,
        DATASET,
        partial(collect_mixed, task=MAZE, episodes=EPISODES[MAZE]),
        {"steps": STEPS, "batch_size": 128},
    ),
    "arm": Robot(
        "decision_diffuser",
        ARM_PLANNER,
        ARM,
        DEMONSTRATIONS,
        partial(collect, task=ARM, episodes=200, quality="expert"),
        {"steps": 4000, "batch_size": 256},
    ),
}


@dataclass(frozen=True)
class Config:
    """Which robots, how many episodes, and where planners and logs lie."""

    only: str = ""  # maze or arm; empty: both
    episodes: int = 10  # seeds of each robot
    seed: int = EVALUATION_SEED  # first environment seed
    rate_scale: float = 0.25  # simulated seconds per second over ROS: three processes share the machine
    maze: str = ""  # bundle of a planner for the maze; empty: trained
    arm: str = ""  # bundle of a planner for the arm; empty: trained
    folder: str = "runs/planners_ros"  # datasets, planners, logs, traces


def run(config: Config) -> BenchResult:
    """One robot after the other."""
    if config.only and config.only not in ROBOTS:
        raise unknown("robot", config.only, ROBOTS)
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    for name in (config.only,) if config.only else tuple(ROBOTS):
        folder = Path(config.folder) / name
        given = getattr(config, name)
        bundle = find_bundle(given) if given else trained(ROBOTS[name], folder)
        found, episodes = measured(bundle, config, folder)
        figures |= {f"{name}.{key}": value for key, value in found.items()}
        rows += [{"robot": name, **row} for row in episodes]
    seeds = list(range(config.seed, config.seed + config.episodes))
    return BenchResult(figures, rows, seeds, (__doc__ or "").split("\n\n", 1)[1].strip())


def trained(robot: Robot, folder: Path) -> Path:
    """The bundle of a finished training below `folder`; trains it, going on where an earlier call was stopped."""
    target = folder / "run"
    if (target / runs.RUN_FILE).exists():
        report = target / "policy" / "report.json"  # every checkpoint writes a bundle
        if report.exists() and json.loads(report.read_text())["steps"] >= robot.training["steps"]:
            return report.parent
        return runs.resume(target).finished().bundle
    folder.mkdir(parents=True, exist_ok=True)
    robot.prepare(folder)
    training = TrainingConfig(threads=1, validation=0.0, tensorboard=False, **robot.training)
    settings = build_config(robot.method, dict(robot.options))
    spec = runs.RunSpec(robot.method, settings, folder / robot.dataset, training, task=robot.task)
    return runs.start(spec, target).finished().bundle


def measured(bundle: Path, config: Config, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures and one row per seed of a planner's episodes in process and over ROS."""
    from diffbot.cli.ros import run_demo
    from diffbot.cli.ros_config import DemoConfig

    make_env, spec = task_environment(load_contract(bundle))
    seeds = range(config.seed, config.seed + config.episodes)
    here = {e.seed: e for e in evaluate(make_env, bundle, seeds, RolloutSettings(spec.horizon), workers=1)}
    out = folder / "ros"
    run_demo(
        DemoConfig(
            policy=str(bundle),
            episodes=config.episodes,
            seed=config.seed,
            rate_scale=config.rate_scale,
            out=str(out),
        )
    )
    record = json.loads((out / "ros.json").read_text())
    there = {row["seed"]: row for row in record["rows"]}
    rows = [
        {
            "seed": seed,
            "process_success": here[seed].success,
            "process_steps": here[seed].steps,
            "ros_success": there[seed]["success"],
            "ros_steps": there[seed]["steps"],
        }
        for seed in seeds
    ]
    count = len(rows)
    figures = {
        "task": spec.id,
        "ros.success": record["ros.success"],
        "process.success": sum(row["process_success"] for row in rows) / count,
        "agree": sum(row["process_success"] == row["ros_success"] for row in rows) / count,
        "ros.chunks_equal": record["ros.chunks_equal"],
        "ros.episodes": count,
        **{
            name: record[name]
            for name in ("ros.chunks", "ros.inference_p50_ms", "ros.latency_p50_ms", "ros.latency_p99_ms")
        },
        "ros.rate_scale": config.rate_scale,
    }
    return figures, rows
