"""Success and seam jump of a policy against inference delay, for each way of stitching chunks.

The delay is simulated: a chunk arrives d control steps after its observation, whatever the machine. Every cell runs the same
seeds, so cells differ by stitching and delay alone. A finished cell is kept in `folder` and used again while policy, settings
and control code stay the same: the same command continues a benchmark that was stopped.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sim_envs
from benchmarks._control_figure import draw
from benchmarks._control_policies import TASKS, bundle_of
from diffbot.control import ActionSpace, Latency
from diffbot.errors import ConfigError
from diffbot.evaluation.bench import BenchResult
from diffbot.evaluation.evaluate import RolloutSettings, check_environment, make_loop
from diffbot.evaluation.rollout import Episode, rollout
from diffbot.evaluation.statistics import mean_interval, wilson_interval

SUMMARY = "success and seam jump against inference delay, for each stitching mode"
ROOT = Path(__file__).resolve().parents[1]
MODULES = ("chunk", "controller", "latency", "limits", "loop", "makeup", "shaper", "stitch")
SOURCES = (*(f"diffbot/control/{name}.py" for name in MODULES), "diffbot/diffusion/guidance/inpaint.py")


@dataclass(frozen=True)
class Config:
    tasks: tuple[str, ...] = ("lift", "pusht")  # robosuite/lift, pusht/state
    lift: str = ""  # bundle for robosuite/lift; empty: one is trained in `folder` on 100 demonstrations
    pusht: str = ""  # bundle for pusht/state; empty: one is trained in `folder` on 500 demonstrations
    modes: tuple[str, ...] = ("switch", "blend", "ensemble", "rtc")  # ways of stitching
    delays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8)  # control steps from observation to chunk
    action_horizon: int = 4  # control steps between two inferences, in every mode
    episodes: int = 20  # per cell
    seed: int = 310000  # first environment seed; away from those of demonstrations and of evaluation
    horizon: int = 0  # control steps of an episode; 0: the task's own
    backend: str = "eager"  # inference engine
    folder: str = "runs/control"  # datasets, runs and finished cells
    finished: bool = False  # report the cells that are finished and run none
    figure: str = ""  # also draw success and seam jump against delay: docs/figures/control_delay.png


def run(config: Config) -> BenchResult:
    """Figures `<task>.<mode>.delay<d>.success`, `.coverage`, `.seam_jump`, `<task>.in_chunk_step`,
    `<task>.rtc.kept4.success`, `.coverage`.

    Jumps and steps are the largest change of a motion entry between two commands, in units of the action. `in_chunk_step`
    is that of `switch` without delay. `kept4`: what rtc reaches at 4 steps of delay over what it reaches at none.
    """
    for task in config.tasks:
        if task not in TASKS:
            raise ConfigError(f"this benchmark knows the tasks {', '.join(TASKS)}, not '{task}'")
    torch.set_num_threads(1)
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    for task in config.tasks:
        bundle = bundle_of(task, getattr(config, task), Path(config.folder))
        asked = [cell(config, task, bundle, mode, d) for d in config.delays for mode in config.modes]
        cells = [row for row in asked if row]
        cells.sort(key=lambda row: (config.modes.index(row["mode"]), row["delay"]))
        rows += cells
        for row in cells:
            name = f"{task}.{row['mode']}.delay{row['delay']}"
            figures |= {
                f"{name}.{key}": row[key] for key in ("success", "coverage", "seam_jump") if key in row
            }
            if (row["mode"], row["delay"]) == ("switch", 0):
                figures[f"{task}.in_chunk_step"] = row["in_chunk_step"]
        for score in ("success", "coverage"):
            still, late = (figures.get(f"{task}.rtc.delay{d}.{score}") for d in (0, 4))
            if still and late is not None:
                figures[f"{task}.rtc.kept4.{score}"] = float(late) / float(still)
    if config.figure:
        draw(rows, figures, Path(config.figure))
    seeds = list(range(config.seed, config.seed + config.episodes))
    return BenchResult(figures, rows, seeds, "intervals: Wilson, 95 % (success); Student t, 95 % (coverage)")


def cell(config: Config, task: str, bundle: Path, mode: str, delay: int) -> dict[str, Any]:
    """The row of one mode and delay, run or read; empty when it is not finished and shall not be run."""
    key = {
        "policy": json.loads((bundle / "manifest.json").read_text())["files"],
        "settings": [TASKS[task].id, mode, delay, config.action_horizon, config.episodes, config.seed],
        "horizon": config.horizon,
        "backend": config.backend,
        "sources": sources(),
    }
    digest = sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = Path(config.folder) / "cells" / f"{task}.{mode}.delay{delay}.{digest}.json"
    if file.exists():
        known: dict[str, Any] = json.loads(file.read_text())
        return known
    if config.finished:
        return {}
    row = {"task": task, "mode": mode, "delay": delay, **measure(config, task, bundle, mode, delay)}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(row) + "\n")
    part.replace(file)
    print(
        f"{task} {mode} delay {delay}: success {row['success']:.2f}, seam jump {row['seam_jump']:.3g}",
        flush=True,
    )
    return row


@functools.cache
def sources() -> str:
    """Digest of the code that decides what a cell shows."""
    return sha256(b"".join((ROOT / file).read_bytes() for file in SOURCES)).hexdigest()


def measure(config: Config, task: str, bundle: Path, mode: str, delay: int) -> dict[str, Any]:
    """Run all episodes of one mode and delay."""
    spec = sim_envs.spec(TASKS[task].id)
    env: Any = sim_envs.make(spec.id)
    horizon = config.horizon or spec.horizon
    settings = RolloutSettings(
        horizon=horizon,
        stitching=mode,
        action_horizon=config.action_horizon,
        backend=config.backend,
        latency=Latency.steps(delay, spec.rate),
    )
    loop = make_loop(bundle, settings)
    check_environment(env, loop.controller.contract)
    motion = ~ActionSpace.from_action(loop.controller.contract.action).gripper
    seeds = range(config.seed, config.seed + config.episodes)
    episodes = [rollout(env, loop, seed, horizon=horizon) for seed in seeds]
    env.close()
    split = [changes(episode, motion, delay) for episode in episodes]
    seams, steps = ([c for pair in split for c in pair[i]] for i in (0, 1))
    wins = sum(e.success for e in episodes)
    low, high = wilson_interval(wins, len(episodes))
    row = {
        "success": wins / len(episodes),
        "low": low,
        "high": high,
        "seam_jump": float(np.mean(seams)) if seams else 0.0,
        "in_chunk_step": float(np.mean(steps)) if steps else 0.0,
        "steps": float(np.mean([e.steps for e in episodes])),
    }
    covered = [e.coverage for e in episodes if e.coverage is not None]
    if len(covered) > 1:
        row["coverage"], row["coverage_low"], row["coverage_high"] = mean_interval(covered)
    return row


def changes(episode: Episode, motion: np.ndarray, delay: int) -> tuple[list[float], list[float]]:
    """Largest change of a motion entry at each seam and at each other step; the wait for the first chunk is left out."""
    assert episode.actions is not None
    change = np.abs(np.diff(episode.actions[:, motion], axis=0)).max(axis=1, initial=0.0)
    seams: Sequence[int] = [k for k in episode.seams if k > max(delay, 0) and k > 0]
    at_seam = [float(change[k - 1]) for k in seams]
    rest = [float(c) for k, c in enumerate(change, start=1) if k > delay and k not in set(episode.seams)]
    return at_seam, rest
