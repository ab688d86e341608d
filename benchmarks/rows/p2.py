"""P2, Decision Diffuser: PointMaze from mixed data against Diffuser and BC, and two constraints never given together."""

from __future__ import annotations

from functools import partial

from benchmarks import _two_gates
from benchmarks._planning import (
    BC,
    DECISION_DIFFUSER,
    DIFFUSER,
    EPISODES,
    MIX,
    PUBLISHED,
    PUBLISHED_GUIDE,
    ROLLOUTS,
    STEPS,
    arm,
    collect_mixed,
)
from benchmarks._rows import Results, Row, Study, Verdict


def studies(budget: str) -> tuple[Study, ...]:
    """smoke: a few toy paths. cpu: the medium maze and the toy constraints. gpu: three mazes at the papers' sizes."""
    if budget == "smoke":
        tiny = {"steps": 40, "batch_size": 16, "log_every": 10}
        network = {"network_options": {"down_dims": [8, 16]}}
        return (_two_gates.study(60, tiny, 16, (0,), network, ("composed", "only_first_up")),)
    if budget == "cpu":
        training = {"steps": STEPS, "batch_size": 128, "checkpoint_every": 100000}
        network = {"network_options": {"down_dims": [16, 32]}, "optimizer": {"learning_rate": 2e-3}}
        gates = _two_gates.study(2000, {"steps": 400, "batch_size": 64}, 256, (0, 1, 2), network)
        return (maze("medium", EPISODES["pointmaze/medium"], training, ROLLOUTS, (0, 1, 2)), gates)
    training = {"steps": 1000000, "batch_size": 32}
    gates = _two_gates.study(20000, {"steps": 100000, "batch_size": 64}, 1024, (0, 1, 2, 3, 4), {})
    mazes = (
        maze(n, 2000, training, 50, (0, 1, 2, 3, 4), published=True) for n in ("umaze", "medium", "large")
    )
    return (*mazes, gates)


def maze(
    name: str,
    recorded: int,
    training: dict[str, int],
    episodes: int,
    seeds: tuple[int, ...],
    *,
    published: bool = False,
) -> Study:
    """One maze with one goal an episode, as in P1."""
    task = f"pointmaze/{name}"
    more = PUBLISHED if published else {}
    guide = PUBLISHED_GUIDE if published else {}
    plain = {**training, "batch_size": 256}
    return Study(
        f"pointmaze_{name}",
        "success",
        (
            arm(
                "decision_diffuser",
                "decision_diffuser",
                {**DECISION_DIFFUSER, **more},
                task,
                training,
                episodes,
            ),
            arm("diffuser", "diffuser", {**DIFFUSER, **more, **guide}, task, training, episodes),
            arm("bc_mlp", "bc_mlp", BC, task, plain, episodes),
        ),
        seeds,
        partial(collect_mixed, task=task, episodes=recorded),
        about=f"{recorded} episodes of way-point controllers {MIX}, failures kept; {training['steps']} gradient steps; "
        f"{episodes} episodes a seed, success within the task's time.",
    )


def judge(results: Results) -> Verdict:
    """Above Diffuser and BC in every maze, and both constraints kept at least twice as often as without composition."""
    mazes = [study for study, name in results.outcomes if name == "decision_diffuser"]
    names = ("decision_diffuser", "diffuser", "bc_mlp")
    found = {study: [results.mean(study, name) for name in names] for study in mazes}
    above = all(ours > max(others) for ours, *others in found.values())
    words = ", ".join(
        f"{s} {a:.2f} against {b:.2f} (Diffuser) and {c:.2f} (BC)" for s, (a, b, c) in found.items()
    )
    single = max(results.mean(study, name) for study, name in results.outcomes if name.startswith("only_"))
    both = results.mean("two_gates", "composed")
    return Verdict(
        bool(mazes) and above and both >= 2 * single,
        f"Success {words or '(no maze)'}; both constraints kept by {both:.2f} of the composed plans, by {single:.2f} when one is asked for.",
    )


ROW = Row(
    id="P2",
    system="Decision Diffuser",
    paper="Ajay et al., ICLR 2023",
    claim="Locomotion, PointMaze: above Diffuser on mixed data; composes constraints",
    studies=studies,
    judge=judge,
)
