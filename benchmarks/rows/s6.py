"""S6, demonstration augmentation: ten demonstrations and what is synthesized from them against fifty, for Diffusion Policy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._rows import Arm, Job, Outcome, Results, Row, Study, Verdict
from benchmarks.rows import p3
from diffbot.data.edit import select
from diffbot.data.merge import merge
from diffbot.data.store import EpisodeStore

FEW, MANY, AUGMENTED = "real_10", "real_50", "real_10_augmented"
SYNTHETIC, FIGURES = "synthetic.zarr", "synthesis.json"


@dataclass(frozen=True)
class Sizes:
    """How much of everything. real: demonstrations that are recorded. total: of the augmented set."""

    real: int = 200
    few: int = 10
    many: int = 50
    total: int = 200
    options: Mapping[str, Any] | None = None  # of method=demo_augmentation
    horizon: int = 0


def studies(budget: str) -> tuple[Study, ...]:
    """smoke: a handful of demonstrations of Lift. gpu: the published sizes of the policy, 1000 demonstrations."""
    if budget == "smoke":
        options = {
            "explore": 2,
            "trial": 2,
            "learning_steps": 20,
            "spread": 0.0,
            "network_options": {"width": 64},
        }
        sizes = Sizes(3, 2, 3, 4, options, 5)
        learner = p3.Learner(p3.OURS, {"network_options": {"width": 64}}, 1.0, 64)
        return (study("lift", p3.Task("robosuite/lift", 40, 1, 0.0), learner, sizes, (FEW, AUGMENTED), (0,)),)
    if budget == "gpu":
        large = {name: replace(p3.TASKS[name], steps=200_000, episodes=50) for name in ("lift", "can")}
        learner, sizes = p3.PUBLISHED[p3.OURS], Sizes(total=1000)
    else:
        large = {name: replace(p3.TASKS[name], episodes=10) for name in ("lift", "can")}
        learner, sizes = p3.LEARNERS[p3.OURS], Sizes()
    return tuple(study(name, task, learner, sizes) for name, task in large.items())


def study(
    name: str,
    task: p3.Task,
    learner: p3.Learner,
    sizes: Sizes,
    arms: tuple[str, ...] = (FEW, MANY, AUGMENTED),
    seeds: tuple[int, ...] = (0, 1, 2),
) -> Study:
    """One task: the same policy, steps, seeds and episodes for all datasets."""
    found = []
    for arm in arms:
        given: dict[str, Any] = {
            "task": task.id,
            "metric": task.metric,
            "method": learner.method,
            "options": {**learner.options, "actions": "relative"},
            "steps": task.steps,
            "batch_size": learner.batch_size,
            "episodes": task.episodes,
            "horizon": sizes.horizon,
            "dataset": f"{arm}.zarr",
            "env": {"action_mode": "absolute"},
        }
        found.append(Arm(arm, partial(run_arm, **given), given | {"sizes": asdict(sizes)}))
    about = (
        f"{sizes.few} and {sizes.many} demonstrations of the scripted expert; {sizes.few} of them and "
        f"{sizes.total - sizes.few} synthesized from these {sizes.few}. Diffusion Policy as in row P3, {task.steps} steps; "
        f"{task.episodes} episodes for each of the last {p3.LAST} checkpoints of each seed."
    )
    return Study(name, task.metric, tuple(found), seeds, partial(prepare, task=task, sizes=sizes), about)


def prepare(shared: Path, *, task: p3.Task, sizes: Sizes) -> None:
    """The demonstrations of P3, the first few and the first many of them, and the augmented set."""
    (record_few if sizes.real < 10 else p3.prepare)(shared, task=task, episodes=sizes.real, quality="expert")
    recorded = EpisodeStore.open(shared / p3.SET_POINTS)
    for name, number in ((FEW, sizes.few), (MANY, sizes.many)):
        if not (shared / f"{name}.zarr").exists():
            select(recorded, shared / f"{name}.zarr", list(range(number)))
    few = EpisodeStore.open(shared / f"{FEW}.zarr")
    if not (shared / f"{AUGMENTED}.zarr").exists():
        synthesize(shared, few, recorded, sizes)
        merge([few, EpisodeStore.open(shared / SYNTHETIC)], shared / f"{AUGMENTED}.zarr")


def record_few(shared: Path, *, task: p3.Task, episodes: int, quality: str) -> None:
    """A handful of demonstrations by set-points, in this process: starting a worker takes longer."""
    import sim_envs
    from diffbot.cli import collect_worker
    from diffbot.data.contract import Contract

    if (shared / p3.SET_POINTS).exists():
        return
    env: Any = sim_envs.make(task.id, action_mode="absolute")
    store = EpisodeStore.create(shared / p3.SET_POINTS, Contract.from_dict(env.unwrapped.contract()))
    job = collect_worker.Job(task.id, quality, {}, (), (84, 84), keep_failures=False)
    for seed in range(episodes):
        episode = collect_worker.play(env, job, seed)
        store.append(episode.arrays, episode.meta)
    env.close()


def synthesize(shared: Path, few: EpisodeStore, recorded: EpisodeStore, sizes: Sizes) -> None:
    """`diffbot synthesize` on the few, and its figures: acceptance, seconds, distance to the sources, coverage."""
    from diffbot.cli import synthesize_demonstrations as verb
    from diffbot.cli.config import Choice
    from diffbot.cli.synthesize_attempts import tally
    from diffbot.cli.synthesize_config import SynthesizeConfig
    from diffbot.evaluation.demonstrate import variety
    from diffbot.methods.registry import build_config
    from diffbot.training.config import TrainingConfig

    method = Choice("demo_augmentation", build_config("demo_augmentation", dict(sizes.options or {})))
    config = SynthesizeConfig(
        dataset=str(few.path),
        out=str(shared / SYNTHETIC),
        method=method,
        run=str(shared / "synthesis"),
        episodes=sizes.total - sizes.few,
        force=sizes.options is not None,
        training=TrainingConfig(validation=0.0, threads=1, tensorboard=False, batch_size=64),
    )
    start, fresh = time.process_time(), not Path(config.run).exists()
    verb.run(config)
    seconds = time.process_time() - start
    store = EpisodeStore.open(shared / SYNTHETIC)
    keys = ("robot0_eef_pos", "object")
    names = few.contract.observations["object"].names
    columns = [
        i for i, name in enumerate(names) if name.endswith(("_pos_x", "_pos_y")) and "_in_" not in name
    ]
    others = [recorded.episode(i, ("object",))["object"][0] for i in range(sizes.few, len(recorded))]
    found = variety(
        [store.episode(i, keys) for i in range(len(store))],
        [few.episode(i, keys) for i in range(len(few))],
        np.array(others)[:, columns],
        columns,
    )
    figures = asdict(found)
    for name, phase in (("retargeting", 0), ("diffusion", 1)):
        accepted, attempts = tally(store, config.seed, phase)
        if attempts:
            figures[f"acceptance_{name}"] = accepted / attempts
    if fresh:  # what an interrupted command took before is not known
        figures |= {"synthesis_s": seconds, "s_per_episode": seconds / len(store)}
    (shared / FIGURES).write_text(dumps(figures, indent=1) + "\n")


def run_arm(job: Job, *, dataset: str, **given: Any) -> Outcome:
    """Diffusion Policy of row P3 on one of the datasets."""
    outcome = p3.run_arm(job, dataset=dataset, **given)
    if dataset != f"{AUGMENTED}.zarr":
        return outcome
    return replace(outcome, figures={**outcome.figures, **loads((job.shared / FIGURES).read_text())})


def judge(results: Results) -> Verdict:
    """Ten and synthetic no worse than fifty on every task, by the means over seeds and checkpoints."""
    words, holds = [], True
    for name in dict.fromkeys(study for study, _ in results.outcomes):
        arms = [arm for study, arm in results.outcomes if study == name]
        mean = {arm: results.mean(name, arm) for arm in arms}
        holds &= mean[AUGMENTED] >= mean.get(MANY, mean[FEW])
        words.append(f"{name} " + ", ".join(f"{arm} {value:.3f}" for arm, value in mean.items()))
    return Verdict(holds, "Means over seeds and the last three checkpoints: " + "; ".join(words) + ".")


ROW = Row(
    id="S6",
    system="Demonstration augmentation",
    paper="Mandlekar et al., CoRL 2023 (MimicGen); diffusion of trajectories",
    claim="10 demonstrations and synthetic ones no worse than 50 real ones for Diffusion Policy on Lift and Can",
    studies=studies,
    judge=judge,
)
