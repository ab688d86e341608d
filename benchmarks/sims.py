"""Steps/s of every simulated task against raw mj_step, and how often and how fast their experts succeed."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sim_envs
from benchmarks import _sims
from diffbot.evaluation.bench import BenchResult

SUMMARY = "simulated tasks: steps/s against raw mj_step, expert success, seconds for a demonstration, quality levels"
LEVEL_TASKS = ("robosuite/lift", "robosuite/stack", "robosuite/can", "robosuite/square")
EPISODES = {
    "metaworld": 10,
    "pusht": 10,
    "metaworld/mt10": 40,
    "metaworld/mt50": 50,
    "antmaze": 10,
    "locomotion": 3,
}
"""Demonstrations by task or family, where they are not the usual number: slow ones fewer, mixed ones more."""
NOTES = (
    "Nothing renders: state observations only. steps_per_s: control steps with random actions for each second of "
    "processor time of one thread; resets left out. raw_fraction: control steps/s of the environment over those of "
    "mj_step alone, same model, substeps, start and control signals, in turn (median of the rounds). expert_success: "
    "share of the episodes in which success was reached; seconds_per_demo: wall time of every episode, from its reset "
    "to success or the time limit, failures included; demo_cpu_s the same in processor time. The column episodes says "
    "how many. level rows: the same episodes at each quality level; return: summed reward."
)


@dataclass(frozen=True)
class Config:
    """What is measured."""

    tasks: tuple[str, ...] = ()  # ids of `diffbot list tasks`; none: every task of the registry
    levels: tuple[str, ...] = LEVEL_TASKS  # tasks whose expert is measured at all four quality levels
    episodes: int = (
        20  # demonstrations of each expert, unless its family has its own number; 0 leaves them out
    )
    block_s: float = 0.12  # seconds of one timed block; 0 leaves the speed out
    rounds: int = 3  # blocks of environment and of raw physics, in turn
    quality: str = "expert"
    seed: int = 100_000  # of the first episode; the others follow
    workers: int = 2  # processes, one thread each
    resume: str = ""  # folder that keeps what is measured, so that the same command goes on after a stop


@dataclass(frozen=True)
class Part:
    """One measurement: the speed of a task (quality "") or its demonstrations at a quality."""

    task: str
    quality: str
    episodes: int
    version: str = ""  # of the demonstrator

    def name(self, config: Config) -> str:
        """File name that changes with every setting that the measurement depends on."""
        setting = (
            f"{self.episodes}x{config.seed}.v{self.version}"
            if self.quality
            else f"{config.block_s}x{config.rounds}x{config.seed}"
        )
        return f"{self.task.replace('/', '_')}.{self.quality or 'speed'}.{setting}.json"


def parts(config: Config) -> Iterator[Part]:
    """Everything to measure: demonstrations first, which take longest."""
    tasks = config.tasks or tuple(sim_envs.tasks())
    for task in tasks:
        if config.episodes and sim_envs.spec(task).expert:
            usual = EPISODES.get(task, EPISODES.get(task.split("/")[0], 20))
            count = min(usual, config.episodes) if usual < 20 else round(usual * config.episodes / 20)
            every = sim_envs.QUALITIES if task in config.levels else (config.quality,)
            for quality in every:
                version = sim_envs.expert(task, quality=quality).version
                yield Part(task, quality, max(1, count), version)
    if config.block_s:
        yield from (Part(task, "", 0) for task in tasks)


def measure(part: Part, config: Config) -> dict[str, float | str]:
    """Take one measurement, or read the one that an earlier run has kept. What fails is told in the row."""
    kept = Path(config.resume) / part.name(config) if config.resume else None
    if kept and kept.exists():
        return dict(json.loads(kept.read_text()))
    found: dict[str, float | str]
    try:
        if part.quality:
            seeds = range(config.seed, config.seed + part.episodes)
            found = dict(_sims.demonstrations(part.task, part.quality, seeds))
        else:
            found = dict(_sims.speed(part.task, config.block_s, config.rounds, config.seed))
    except Exception as error:  # one broken task must not cost the others
        return {"error": f"{type(error).__name__}: {error}"}
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(json.dumps(found))
        partial.replace(kept)
    return found


def run(config: Config) -> BenchResult:
    """Figures `<task>.steps_per_s`, `.raw_fraction`, `.expert_success`, `.seconds_per_demo`, `.demo_steps`; levels as
    `<task>.<level>.success` and `.return`. A worker that dies ends the run with an error; `resume` keeps the rest.
    """
    every = list(parts(config))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # before the workers load their libraries
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, mp_context=context) as pool:
        found = list(pool.map(measure, every, [config] * len(every)))

    figures: dict[str, float | int | str | bool] = {}
    rows: dict[str, dict[str, Any]] = {part.task: {"task": part.task} for part in sorted(every, key=_task)}
    levels: list[dict[str, Any]] = []
    for part, result in zip(every, found, strict=True):
        if "error" in result:
            rows[part.task]["error"] = result["error"]
            continue
        if part.quality == config.quality:
            result = {_NAMES.get(name, name): value for name, value in result.items()}
            result["episodes"] = part.episodes
        if not part.quality or part.quality == config.quality:
            rows[part.task] |= {name: round(float(value), 4) for name, value in result.items()}
            figures |= {f"{part.task}.{name}": value for name, value in result.items()}
        if part.quality and part.task in config.levels:
            named = {_LEVEL_NAMES.get(name, name): value for name, value in result.items()}
            kept = {name: float(named[name]) for name in ("success", "return", "steps")}
            levels.append({"task": part.task, "level": part.quality, "episodes": part.episodes, **kept})
            figures |= {f"{part.task}.{part.quality}.{name}": value for name, value in kept.items()}
    count = max((part.episodes for part in every), default=0)
    seeds = list(range(config.seed, config.seed + count))
    return BenchResult(figures, [*rows.values(), *levels], seeds, NOTES)


_NAMES = {
    "success": "expert_success",
    "return": "demo_return",
    "seconds": "seconds_per_demo",
    "steps": "demo_steps",
    "cpu_seconds": "demo_cpu_s",
}
_LEVEL_NAMES = {new: old for old, new in _NAMES.items()}


def _task(part: Part) -> str:
    return part.task
