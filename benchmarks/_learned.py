"""The usual arm of a study: a method trained by the project's trainer, rolled out by the project's evaluator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._rows import Arm, Job, Outcome
from diffbot.errors import unknown
from diffbot.evaluation.evaluate import EVALUATION_SEED, RolloutSettings, check_environment, make_loop
from diffbot.evaluation.rollout import Episode, rollout
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig
from diffbot.training.metrics import read_metrics


def _coverage(task: str, episodes: Sequence[Episode]) -> float:
    return float(np.mean([episode.coverage for episode in episodes if episode.coverage is not None]))


def score(task: str, episodes: Sequence[Episode]) -> float:
    """100 at the expert, 0 at a random policy; without reference scores 100 times the success.

    A rollout ends at the goal of a maze. The steps that were left count as spent there, where each pays 1, as in the
    reference scores, whose episodes go on.
    """
    import sim_envs
    from sim_envs.reference_scores import REFERENCE_SCORES, normalised_score

    if task not in REFERENCE_SCORES:
        return 100.0 * float(np.mean([episode.success for episode in episodes]))
    if task.startswith("pointmaze/"):
        horizon = sim_envs.spec(task).horizon
        returns = [float(horizon - e.steps + 1) if e.success else 0.0 for e in episodes]
    else:
        returns = [episode.reward for episode in episodes]
    return float(np.mean([normalised_score(task, value) for value in returns]))


METRICS: dict[str, Callable[[str, Sequence[Episode]], float]] = {
    "success": lambda task, episodes: float(np.mean([episode.success for episode in episodes])),
    "return": lambda task, episodes: float(np.mean([episode.reward for episode in episodes])),
    "coverage": _coverage,
    "normalized_score": score,
}


def learned(
    name: str,
    method: str,
    options: Mapping[str, Any] | None = None,
    *,
    task: str,
    dataset: str,
    training: Mapping[str, Any],
    episodes: int,
    metric: str = "success",
    rollouts: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
) -> Arm:
    """Train `method` with `options` on `shared`/`dataset`, roll it out on `episodes` seeds from 100000 on.

    training: of TrainingConfig; one thread, no held-out episodes unless it says otherwise. rollouts: of
    RolloutSettings. env: options of the environment. Raises ConfigError for an unknown metric.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    given: dict[str, Any] = dict(
        method=method,
        options=dict(options or {}),
        task=task,
        dataset=dataset,
        training={"threads": 1, "validation": 0.0, "tensorboard": False, **training},
        episodes=episodes,
        metric=metric,
        rollouts=dict(rollouts or {}),
        env=dict(env or {}),
    )
    return Arm(name, partial(run_learned, **given), given)


def run_learned(
    job: Job,
    *,
    method: str,
    options: Mapping[str, Any],
    task: str,
    dataset: str,
    training: Mapping[str, Any],
    episodes: int,
    metric: str,
    rollouts: Mapping[str, Any],
    env: Mapping[str, Any],
) -> Outcome:
    """One training and its evaluation."""
    config = TrainingConfig(**training)
    spec = runs.RunSpec(
        method, build_config(method, dict(options)), job.shared / dataset, config, job.seed, task
    )
    start = time.process_time()
    result = runs.start(spec, job.folder / "run").finished()
    train_s = time.process_time() - start
    found = roll_out(result.bundle, task, episodes, seed=job.seed, rollouts=rollouts, env=env)
    figures = {"eval_episodes": float(len(found)), **losses(job.folder / "run")}
    if metric != "success":
        figures["success"] = METRICS["success"](task, found)
    return Outcome(METRICS[metric](task, found), train_s, result.parameters, figures)


def roll_out(
    bundle: Path,
    task: str,
    episodes: int,
    *,
    seed: int = 0,
    rollouts: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
) -> list[Episode]:
    """Episodes of a bundle on the environment seeds 100000, 100001, ..., one after the other in this process."""
    import sim_envs

    settings = RolloutSettings(**{"horizon": sim_envs.spec(task).horizon, "seed": seed, **(rollouts or {})})
    loop = make_loop(bundle, settings)
    options = sim_envs.matching_options(task, loop.controller.contract.to_dict())
    environment: Any = sim_envs.make(task, **{**options, **(env or {})})
    try:
        check_environment(environment, loop.controller.contract)
        return [
            rollout(environment, loop, number, horizon=settings.horizon)
            for number in range(EVALUATION_SEED, EVALUATION_SEED + episodes)
        ]
    finally:
        environment.close()


def losses(run: Path) -> dict[str, float]:
    """First and last logged training loss of a run folder."""
    logged = [line["loss"] for line in read_metrics(run) if line.get("loss") is not None]
    return {"loss_first": float(logged[0]), "loss_last": float(logged[-1])} if logged else {}
