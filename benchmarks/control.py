"""Success and seam jump of a policy against inference delay, for each way of stitching chunks.

The delay is simulated: a chunk arrives d control steps after its observation, whatever the machine. Every cell runs the same
seeds, so cells differ by stitching and delay alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import sim_envs
from diffbot.control import ActionSpace, Latency
from diffbot.errors import ConfigError
from diffbot.evaluation.bench import BenchResult
from diffbot.evaluation.evaluate import RolloutSettings, check_environment, make_loop
from diffbot.evaluation.rollout import Episode, rollout
from diffbot.evaluation.statistics import wilson_interval

SUMMARY = "success and seam jump against inference delay, for each stitching mode"


@dataclass(frozen=True)
class Config:
    lift: str = ""  # bundle of a policy for robosuite/lift; empty: left out
    pusht: str = ""  # bundle of a policy for Push-T; empty: left out
    lift_task: str = "robosuite/lift"  # environments
    pusht_task: str = "pusht/state"
    modes: tuple[str, ...] = ("switch", "blend", "ensemble", "rtc")  # ways of stitching
    delays: tuple[int, ...] = (0, 1, 2, 4, 8)  # control steps from observation to chunk
    episodes: int = 20  # per cell
    seed: int = 300000  # first environment seed; away from those of demonstrations and of evaluation
    backend: str = "auto"  # inference engine


def run(config: Config) -> BenchResult:
    """Figures `<task>.<mode>.delay<d>.success`, `.seam_jump` and `<task>.in_chunk_step` (motion entries, largest per step)."""
    torch.set_num_threads(1)
    bundles = {"lift": (config.lift, config.lift_task), "pusht": (config.pusht, config.pusht_task)}
    given = {name: pair for name, pair in bundles.items() if pair[0]}
    if not given:
        raise ConfigError("give at least one bundle: lift=runs/lift/policy or pusht=runs/pusht/policy")
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, float | str]] = []
    for name, (bundle, task) in given.items():
        inside: list[float] = []
        for mode in config.modes:
            for delay in config.delays:
                seams, steps, episodes = cell(config, Path(bundle), task, mode, delay)
                wins = sum(e.success for e in episodes)
                low, high = wilson_interval(wins, len(episodes))
                figures[f"{name}.{mode}.delay{delay}.success"] = wins / len(episodes)
                figures[f"{name}.{mode}.delay{delay}.seam_jump"] = float(np.mean(seams)) if seams else 0.0
                if mode == "switch" and delay == 0:
                    inside = steps
                rows.append(
                    {
                        "task": name,
                        "mode": mode,
                        "delay": delay,
                        "success": wins / len(episodes),
                        "low": low,
                        "high": high,
                        "seam_jump": figures[f"{name}.{mode}.delay{delay}.seam_jump"],
                        "in_chunk_step": float(np.mean(steps)) if steps else 0.0,
                    }
                )
        if inside:
            figures[f"{name}.in_chunk_step"] = float(np.mean(inside))
    return BenchResult(
        figures, rows, list(range(config.seed, config.seed + config.episodes)), "interval: Wilson, 95 %"
    )


def cell(
    config: Config, bundle: Path, task: str, mode: str, delay: int
) -> tuple[list[float], list[float], list[Episode]]:
    """All episodes of one mode and delay: jumps where one chunk takes over from another, steps inside chunks, episodes."""
    env = sim_envs.make(task)
    spec = sim_envs.spec(task)
    settings = RolloutSettings(
        horizon=spec.horizon,
        stitching=mode,
        backend=config.backend,
        latency=Latency.steps(delay, spec.rate),
    )
    loop = make_loop(bundle, settings)
    check_environment(env, loop.controller.contract)
    motion = ~ActionSpace.from_action(loop.controller.contract.action).gripper
    episodes = [
        rollout(env, loop, seed, horizon=spec.horizon)
        for seed in range(config.seed, config.seed + config.episodes)
    ]
    env.close()
    seams: list[float] = []
    steps: list[float] = []
    for episode in episodes:
        at_seam, inside = changes(episode, motion, delay)
        seams += at_seam
        steps += inside
    return seams, steps, episodes


def changes(episode: Episode, motion: np.ndarray, delay: int) -> tuple[list[float], list[float]]:
    """Largest change of a motion entry at each seam and at each other step; the wait for the first chunk is left out."""
    assert episode.actions is not None
    change = np.abs(np.diff(episode.actions[:, motion], axis=0)).max(axis=1, initial=0.0)
    seams: Sequence[int] = [k for k in episode.seams if k > max(delay, 0) and k > 0]
    at_seam = [float(change[k - 1]) for k in seams]
    rest = [float(c) for k, c in enumerate(change, start=1) if k > delay and k not in set(episode.seams)]
    return at_seam, rest
