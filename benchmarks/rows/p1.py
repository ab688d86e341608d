"""P1, Diffuser: PointMaze (and locomotion, on a GPU) from mixed data, against behaviour cloning."""

from __future__ import annotations

from functools import partial

from benchmarks._planning import (
    BC,
    DIFFUSER,
    EPISODES,
    MIX,
    PUBLISHED,
    PUBLISHED_GUIDE,
    ROLLOUTS,
    SMALL,
    STEPS,
    arm,
    collect_mixed,
    collect_recipe,
)
from benchmarks._rows import Results, Row, Study, Verdict

LOCOMOTION = ("hopper", "walker2d", "halfcheetah")


def studies(budget: str) -> tuple[Study, ...]:
    """smoke: a minute of the small maze. cpu: two mazes. gpu: three mazes and three bodies at the paper's sizes."""
    if budget == "smoke":
        return (maze("umaze", 3, {"steps": 40, "batch_size": 16, "log_every": 10}, 1, (0,), hurry=True),)
    if budget == "cpu":
        training = {"steps": STEPS, "batch_size": 128, "checkpoint_every": 100000}
        return tuple(
            maze(name, EPISODES[f"pointmaze/{name}"], training, ROLLOUTS, (0, 1, 2))
            for name in ("umaze", "medium")
        )
    training = {"steps": 500000, "batch_size": 32}
    mazes = (
        maze(n, 2000, training, 50, (0, 1, 2, 3, 4), published=True) for n in ("umaze", "medium", "large")
    )
    return (*mazes, *(body(name, training) for name in LOCOMOTION))


def maze(
    name: str,
    recorded: int,
    training: dict[str, int],
    episodes: int,
    seeds: tuple[int, ...],
    *,
    hurry: bool = False,
    published: bool = False,
) -> Study:
    """One maze with one goal an episode; the goal is part of the observation of both arms."""
    task = f"pointmaze/{name}"
    ours = {**DIFFUSER, **(SMALL if hurry else {}), **({**PUBLISHED, **PUBLISHED_GUIDE} if published else {})}
    limit = {"rollouts": {"horizon": 80}} if hurry else {}
    return Study(
        f"pointmaze_{name}",
        "success",
        (
            arm("diffuser", "diffuser", ours, task, training, episodes, **limit),
            arm("bc_mlp", "bc_mlp", BC, task, {**training, "batch_size": 256}, episodes, **limit),
        ),
        seeds,
        partial(collect_mixed, task=task, episodes=recorded),
        about=f"{recorded} episodes of way-point controllers {MIX}, failures kept; {training['steps']} gradient steps; "
        f"{episodes} episodes a seed, success within the task's time.",
    )


def body(name: str, training: dict[str, int]) -> Study:
    """One body of the locomotion suite on its medium-replay data."""
    task = f"locomotion/{name}"
    options = {
        "horizon": 32,
        "action_horizon": 1,
        "samples": 64,
        "schedule_options": {"steps": 20},
        "optimizer": {"learning_rate": 2e-4},
        "ema": {"maximum": 0.995},
        "network_options": {"down_dims": [32, 64, 128, 256]},
        "guide_dims": [32, 64, 128],
        "discount": 0.997,
    }
    more = {"metric": "normalized_score"}
    return Study(
        f"locomotion_{name}",
        "normalized_score",
        (
            arm("diffuser", "diffuser", options, task, training, 10, **more),
            arm("bc_mlp", "bc_mlp", BC, task, {**training, "batch_size": 256}, 10, **more),
        ),
        (0, 1, 2, 3, 4),
        partial(collect_recipe, name=f"{name}-medium-replay"),
        about="The medium-replay recipe at its published size.",
    )


def judge(results: Results) -> Verdict:
    """Above behaviour cloning in the mean of every study."""
    pairs = {
        study: (results.mean(study, "diffuser"), results.mean(study, "bc_mlp"))
        for study, name in results.outcomes
        if name == "diffuser"
    }
    words = ", ".join(f"{study} {ours:.2f} against {bc:.2f}" for study, (ours, bc) in pairs.items())
    return Verdict(all(ours > bc for ours, bc in pairs.values()), f"Diffuser against BC: {words}.")


ROW = Row(
    id="P1",
    system="Diffuser",
    paper="Janner et al., ICML 2022",
    claim="PointMaze, locomotion: above BC on mixed data",
    studies=studies,
    judge=judge,
)
