"""A diffusion policy and its one-step student on the same seeds: success with intervals, and the time of a chunk."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffbot.cli.collect import run as collect
from diffbot.cli.collect_config import CollectConfig
from diffbot.control import PolicyRunner
from diffbot.errors import ConfigError
from diffbot.evaluation.bench import BenchResult, interleave
from diffbot.evaluation.evaluate import EVALUATION_SEED, RolloutSettings, evaluate, summarize
from diffbot.evaluation.statistics import overlap
from diffbot.methods.bundle import load_bundle
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

SUMMARY = "one-step policies distilled from 50-step diffusion policies: success and speed-up"


@dataclass(frozen=True)
class Config:
    """What is trained and measured. Finished parts in `folder` are used again."""

    tasks: tuple[str, ...] = ("robosuite/lift", "robosuite/stack")  # diffbot list tasks
    folder: str = "runs/one_step"  # datasets, runs and evaluations
    demonstrations: int = 200  # scripted episodes per task
    teachers: dict[str, str] = field(default_factory=dict)  # task: a trained diffusion_policy to use instead
    datasets: dict[str, str] = field(default_factory=dict)  # task: a dataset to use instead of collecting one
    solver_steps: int = 50  # of the teacher (DDIM)
    evaluations: int = 1  # network evaluations of the student
    teacher_steps: int = 6000  # gradient steps of the teacher
    student_steps: int = 2000  # gradient steps of the student
    width: int = 1024  # units per hidden layer of both networks (mlp)
    depth: int = 6  # hidden layers
    precision: str = "bf16-mixed"  # of training
    reuse: int = 16  # how often the student draws each of the teacher's solves
    episodes: int = 50  # evaluation seeds per policy
    seed: int = 0  # of training; evaluation seeds start at 100000
    repeats: int = 50  # timed chunks per policy
    backend: str = "eager"  # inference engine of both policies, diffbot.control.engine.BACKENDS
    evaluate: bool = True  # false: only train what is missing


def run(config: Config) -> BenchResult:
    """Train what is missing, then evaluate teacher and student of each task."""
    if config.evaluations < 1 or config.episodes < 1:
        raise ConfigError("evaluations and episodes must be at least 1")
    figures: dict[str, float | int | str | bool] = {}
    rows = []
    for task in config.tasks:
        teacher, student = train(config, task)
        if not config.evaluate:
            continue
        seconds = chunk_seconds(config, teacher, student)
        name = task.rsplit("/", 1)[-1]
        intervals = []
        for role, bundle in (("teacher", teacher), ("one_step", student)):
            record = success(config, task, bundle)
            low, high = record["interval"]
            intervals.append((low, high))
            milliseconds = 1e3 * float(np.median(seconds[role]))
            figures |= {
                f"{name}.{role}.success": record["success"],
                f"{name}.{role}.low": low,
                f"{name}.{role}.high": high,
                f"{name}.{role}.chunk_ms": milliseconds,
            }
            rows.append(
                {
                    "task": task,
                    "policy": role,
                    "evaluations": config.solver_steps if role == "teacher" else config.evaluations,
                    "success": f"{record['success']:.2f} [{low:.2f}, {high:.2f}]",
                    "episodes": record["episodes"],
                    "chunk_ms": round(milliseconds, 3),
                }
            )
        figures[f"{name}.overlap"] = overlap(*intervals)
        figures[f"{name}.speedup"] = float(np.median(seconds["teacher"]) / np.median(seconds["one_step"]))
    seeds = list(range(EVALUATION_SEED, EVALUATION_SEED + config.episodes))
    notes = "Intervals: Wilson, 95 %. Speed-up: ratio of median chunk times at batch 1, runs interleaved."
    return BenchResult(figures, rows, seeds, notes)


def train(config: Config, task: str) -> tuple[Path, Path]:
    """The bundles of teacher and student, made where they are missing and continued where they are unfinished."""
    folder = Path(config.folder) / task.replace("/", "_")
    dataset = Path(config.datasets.get(task, folder / "demonstrations.zarr"))
    if task not in config.datasets:
        collect(CollectConfig(task=task, episodes=config.demonstrations, out=str(dataset)))
    given = config.teachers.get(task)
    teacher = Path(given) if given else folder / "teacher"
    if not given:
        options = {
            "network_options": {"width": config.width, "depth": config.depth},
            "solver": "ddim",
            "inference_steps": config.solver_steps,
        }
        _train(config, teacher, task, dataset, "diffusion_policy", options, config.teacher_steps)
    student = folder / "student"
    options = {
        "teacher": str(teacher),
        "teacher_steps": config.solver_steps,
        "inference_steps": config.evaluations,
        "reuse": config.reuse,
    }
    _train(config, student, task, dataset, "consistency_policy", options, config.student_steps)
    return load_bundle(teacher).path or teacher, load_bundle(student).path or student


def _train(
    config: Config, folder: Path, task: str, dataset: Path, method: str, options: dict[str, Any], steps: int
) -> None:
    """Start or continue a run; the same command continues one that a signal stopped."""
    if (folder / "run.yaml").exists():
        runs.resume(folder, steps=steps).finished()
        return
    training = TrainingConfig(
        steps=steps, precision=config.precision, validation=0.0, checkpoint_every=500, tensorboard=False
    )
    settings = build_config(method, options)
    runs.start(runs.RunSpec(method, settings, dataset, training, config.seed, task), folder).finished()


def success(config: Config, task: str, bundle: Path) -> dict[str, Any]:
    """The evaluation of one bundle; read again when the same weights were evaluated the same way."""
    import sim_envs

    manifest = json.loads((bundle / "manifest.json").read_text())
    key = {"files": manifest["files"], "episodes": config.episodes, "backend": config.backend}
    file = bundle.parent / "one_step_evaluation.json"
    if file.exists():
        known = json.loads(file.read_text())
        if known["key"] == key:
            return known["record"]
    make_env = functools.partial(sim_envs.make, task)
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + config.episodes)
    settings = RolloutSettings(horizon=sim_envs.spec(task).horizon, seed=config.seed, backend=config.backend)
    record = summarize(list(evaluate(make_env, bundle, seeds, settings)))
    file.write_text(json.dumps({"key": key, "record": record}) + "\n")
    return record


def chunk_seconds(config: Config, teacher: Path, student: Path) -> dict[str, np.ndarray]:
    """Seconds from observation to chunk at batch 1 on one thread, for both policies in turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runners = {
            role: PolicyRunner(load_bundle(bundle), seed=config.seed, backend=config.backend)
            for role, bundle in (("teacher", teacher), ("one_step", student))
        }
        for runner in runners.values():
            runner.warm_up()
            runner.reset(0, start=0.0)
            fields = runner.inputs.observations
            runner.observe({key: np.zeros(f.shape, f.dtype) for key, f in fields.items()}, 0.0)
        return interleave({role: runner.infer for role, runner in runners.items()}, config.repeats, warmup=5)
    finally:
        torch.set_num_threads(threads)
