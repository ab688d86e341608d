"""A policy bundle on many seeds over all cores: success with its interval."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffbot.control import Controller, ControlLoop, Latency, Limits, PolicyRunner
from diffbot.control.load import require_fit
from diffbot.data.contract import Contract
from diffbot.evaluation.rollout import Episode, rollout
from diffbot.evaluation.statistics import wilson_interval
from diffbot.methods.bundle import load_bundle

EVALUATION_SEED = 100_000


@dataclass(frozen=True)
class RolloutSettings:
    """How each episode is run; everything in it is plain, so that worker processes can be given it.

    horizon: control steps. seed: of the policy's noise. stitching: how a new chunk takes over. film: seeds to film.
    """

    horizon: int
    seed: int = 0
    stitching: str = "switch"
    action_horizon: int | None = None
    backend: str = "auto"
    latency: Latency = field(default_factory=Latency)
    limits: Limits = field(default_factory=Limits)
    film: frozenset[int] = frozenset()
    camera: str = ""
    size: int = 256


def make_loop(policy: Path, settings: RolloutSettings) -> ControlLoop:
    """The control loop of a bundle, warmed up."""
    runner = PolicyRunner(load_bundle(policy), seed=settings.seed, backend=settings.backend)
    runner.warm_up()
    controller = Controller(
        runner.contract,
        settings.limits,
        settings.stitching,
        settings.action_horizon or runner.action_horizon,
    )
    return ControlLoop(runner, controller, settings.latency, settings.seed)


def check_environment(env: Any, contract: Contract) -> None:
    """Raise ContractError, with what can be done, unless the environment offers what the policy was trained on."""
    require_fit(contract, Contract.from_dict(env.unwrapped.contract()))


def evaluate(
    make_env: Callable[[], Any],
    policy: Path,
    seeds: Sequence[int],
    settings: RolloutSettings,
    workers: int = 0,
) -> Iterator[Episode]:
    """Yield one Episode for each seed, as they end.

    make_env: picklable factory of the environment. workers: processes, 0 for one per core. The result of a seed does not
    depend on the number of workers.
    """
    workers = min(workers or os.cpu_count() or 1, len(seeds))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(make_env, policy, settings)
    ) as pool:
        for future in as_completed([pool.submit(_episode, seed) for seed in seeds]):
            yield future.result()


def summarize(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Plain record of an evaluation, episodes in the order of their seeds.

    "return" is the mean of "rewards"; "coverage" the mean of "coverages" where the task has one.
    """
    ordered = sorted(episodes, key=lambda episode: episode.seed)
    successes = sum(episode.success for episode in ordered)
    inference = [ms for episode in ordered for ms in episode.inference_ms]
    seams = [jump for episode in ordered for jump in episode.seam_jumps]
    inside = [jump for episode in ordered for jump in episode.chunk_steps]
    counters: dict[str, int] = {}
    for episode in ordered:
        for reason, count in episode.counters.items():
            counters[reason] = counters.get(reason, 0) + count
    covered = [episode.coverage for episode in ordered if episode.coverage is not None]
    scores = (
        {"coverage": float(np.mean(covered)), "coverages": [round(c, 6) for c in covered]} if covered else {}
    )
    return {
        "success": successes / len(ordered),
        "interval": list(wilson_interval(successes, len(ordered))),
        "episodes": len(ordered),
        "seeds": [episode.seed for episode in ordered],
        "successes": [episode.success for episode in ordered],
        "steps": [episode.steps for episode in ordered],
        "return": float(np.mean([episode.reward for episode in ordered])),
        "rewards": [round(episode.reward, 6) for episode in ordered],
        "seam_jump": float(np.mean(seams)) if seams else 0.0,
        "in_chunk_step": float(np.mean(inside)) if inside else 0.0,
        "held": sum(episode.held for episode in ordered),
        "counters": counters,
        "inference_ms": [round(ms, 3) for ms in inference],
        **scores,
    }


_worker: dict[str, Any] = {}


def _start(make_env: Callable[[], Any], policy: Path, settings: RolloutSettings) -> None:
    # One episode has batch 1: threads of one worker would only fight with the other workers.
    torch.set_num_threads(1)
    loop = make_loop(policy, settings)
    env = make_env()
    check_environment(env, loop.controller.contract)
    _worker.update(env=env, loop=loop, settings=settings)


def _episode(seed: int) -> Episode:
    settings: RolloutSettings = _worker["settings"]
    camera = settings.camera if seed in settings.film else ""
    return rollout(
        _worker["env"], _worker["loop"], seed, horizon=settings.horizon, camera=camera, size=settings.size
    )
