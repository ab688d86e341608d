"""The online half of S1: environment steps that SAC needs to a stated return, without and with synthesis in its replay."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks._rows import Arm, Job, Outcome, Results, Study
from diffbot.evaluation.evaluate import EVALUATION_SEED
from diffbot.methods.registry import build_config
from diffbot.training import online_run
from diffbot.training.config import TrainingConfig
from diffbot.training.metrics import read_metrics
from diffbot.training.online_config import OnlineConfig, SynthesisConfig

PREFIX = "online_"
METRIC = "minus_ksteps_to_return"
PAPER = {
    "every": 10_000,
    "steps": 100_000,
    "transitions": 200_000,
    "options": {"network_options": {"width": 1024}},
}
# Of Lu et al. 2023, Sec. 4.2, the tasks that are here; the returns are ours, as the paper shows curves.
PAPER_TASKS = {
    "locomotion/halfcheetah": 6000.0,
    "locomotion/hopper": 2500.0,
    "locomotion/walker2d": 2500.0,
    "dm_control/cheetah-run": 500.0,
    "dm_control/reacher-hard": 700.0,
}


def online_studies(budget: str) -> tuple[Study, ...]:
    """cpu: a task that SAC learns within minutes; gpu: the published settings."""
    if budget == "smoke":
        small = {
            "every": 40,
            "steps": 10,
            "transitions": 200,
            "options": {"network_options": {"width": 32, "depth": 2}},
        }
        agent, env = {"width": 32, "critic": {"width": 32}}, {"reward": "dense"}
        return (online_study("pointmaze/umaze", 60.0, 60, 30, 2, small, 60, 1, (0,), agent, env),)
    if budget == "cpu":
        small = {"every": 1000, "steps": 1500, "transitions": 10_000, "options": FAST}
        agent = {"temperature": 0.1}
        return (
            online_study(
                "dm_control/cartpole-balance", 800.0, 7000, 500, 10, small, 500, 2, (0, 1, 2), agent
            ),
        )
    return tuple(
        online_study(task, target, 200_000, 5000, 20, PAPER, 2000, 10, (0, 1, 2, 3, 4))
        for task, target in PAPER_TASKS.items()
    )


# A network of a quarter of the width learns a small replay in 1500 steps at a higher rate.
FAST: dict[str, Any] = {
    "network_options": {"width": 256, "depth": 4},
    "optimizer": {"learning_rate": 1e-3},
}


def online_study(
    task: str,
    target: float,
    steps: int,
    random_steps: int,
    updates: int,
    synthesis: Mapping[str, Any],
    evaluate_every: int,
    episodes: int,
    seeds: tuple[int, ...],
    agent: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
) -> Study:
    """SAC with one update a step, with `updates`, and with `updates` over half real and half synthetic transitions."""
    common = {
        "task": task,
        "target": target,
        "steps": steps,
        "random_steps": random_steps,
        "evaluate_every": evaluate_every,
        "episodes": episodes,
        "agent": dict(agent or {}),
        "env": dict(env or {}),
    }
    arms = []
    for name, number, more in (
        ("sac", 1, {}),
        ("sac_utd", updates, {}),
        ("sac_synther", updates, dict(synthesis)),
    ):
        given: dict[str, Any] = {**common, "updates": number, "synthesis": more}
        arms.append(Arm(name, partial(run_online, **given), given))
    about = (
        f"{task}, {steps} environment steps, the first {random_steps} of them random. The value is minus the thousands of "
        f"steps at which the mean return of {episodes} evaluation episodes first reaches {target:g} (looked at every "
        f"{evaluate_every} steps; a run ends there, and one that never reaches it counts as {steps}). sac: one update a step; sac_utd: {updates} critic "
        f"updates and one of the actor; sac_synther: the same updates over half real, half synthetic transitions, "
        f"{synthesis['transitions']} drawn every {synthesis['every']} steps from a SynthER trained anew for "
        f"{synthesis['steps']} steps."
        + (f" Settings of SAC that differ from its defaults: {dict(agent)}." if agent else "")
    )
    return Study(PREFIX + task.rsplit("/", 1)[-1], METRIC, tuple(arms), seeds, about=about)


def run_online(
    job: Job,
    *,
    task: str,
    target: float,
    steps: int,
    random_steps: int,
    evaluate_every: int,
    episodes: int,
    updates: int,
    synthesis: Mapping[str, Any],
    agent: Mapping[str, Any],
    env: Mapping[str, Any],
) -> Outcome:
    """One agent. train_s holds its exploration and evaluations too."""
    import sim_envs

    online = OnlineConfig(
        steps=steps,
        random_steps=random_steps,
        updates_per_step=updates,
        evaluate_every=evaluate_every,
        evaluation_episodes=episodes,
        evaluation_seed=EVALUATION_SEED,
        until_return=target,
        env=dict(env),
        synthesis=SynthesisConfig(**synthesis),
    )
    training = TrainingConfig(
        threads=1, tensorboard=False, log_every=max(1, steps // 20), checkpoint_every=steps, keep=1
    )
    config = build_config("sac", {**agent, "policy_every": updates})
    spec = online_run.OnlineSpec("sac", config, task, online, training, job.seed)
    start = time.process_time()
    result = online_run.start(spec, job.folder / "run", partial(sim_envs.make, task, **env)).finished()
    spent = time.process_time() - start
    curve = [(line["step"], line["return"]) for line in read_metrics(job.folder / "run", "evaluation")]
    reached = next((step for step, value in curve if value >= target), None)
    figures = {
        "reached": float(reached is not None),
        "best_return": max(value for _, value in curve),
    }
    return Outcome(-(reached or steps) / 1000.0, spent, result.parameters, figures)


def judge_online(results: Results) -> tuple[bool, str]:
    """Fewer steps than SAC, and than SAC with as many updates, on average over the studies."""
    names = list(dict.fromkeys(study for study, _ in results.outcomes if study.startswith(PREFIX)))
    arms = ("sac", "sac_utd", "sac_synther")
    needed = {arm: -float(np.mean([results.mean(name, arm) for name in names])) for arm in arms}
    reached = {
        arm: sum(int(o.figures["reached"]) for name in names for o in results.of(name, arm)) for arm in arms
    }
    runs = sum(len(results.of(name, "sac")) for name in names)
    holds = needed["sac_synther"] < min(needed["sac"], needed["sac_utd"])
    words = ", ".join(f"{arm} {needed[arm]:.2f} ({reached[arm]} of {runs} reached it)" for arm in arms)
    told = "".join(
        f"; {'fewer' if needed['sac_synther'] < needed[other] else 'not fewer'} than {other}"
        for other in arms[:2]
    )
    return holds, f"Online, thousands of steps to the return: {words}{told}"
