"""S1, SynthER: half of the data and what is synthesized from it, against all the data, for TD3+BC and IQL; and synthesis
inside the replay of an agent that explores."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from benchmarks._learned import run_learned
from benchmarks._rows import Arm, Job, Outcome, Results, Row, Study, Verdict
from benchmarks.rows._s1_online import PREFIX, judge_online, online_studies
from diffbot.cli.synthesize import check, draw
from diffbot.data.edit import split
from diffbot.data.merge import merge
from diffbot.data.store import EpisodeStore
from diffbot.methods.bundle import load_bundle
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

ALL, HALF = "all.zarr", "half.zarr"
LEARNERS = ("td3_bc", "iql")
SOURCES = ("all", "half", "half_synther")


def studies(budget: str) -> tuple[Study, ...]:
    """The offline and the online half of the claim."""
    return offline_studies(budget) + online_studies(budget)


def offline_studies(budget: str) -> tuple[Study, ...]:
    """cpu: PointMaze umaze and Hopper, small sets; gpu: the published sizes of Hopper, HalfCheetah and Walker2d."""
    if budget == "smoke":
        return (study("umaze", "pointmaze/umaze", "pointmaze-umaze", 0.004, 40, 30, 600, 1, (0,)),)
    if budget == "cpu":
        return (
            study("umaze", "pointmaze/umaze", "pointmaze-umaze", 0.05, 2500, 4000, 50_000, 10, (0, 1, 2)),
            study(
                "hopper", "locomotion/hopper", "hopper-medium-replay", 0.125, 2500, 5000, 50_000, 5, (0, 1, 2)
            ),
        )
    return tuple(
        study(
            body,
            f"locomotion/{body}",
            f"{body}-medium-replay",
            1.0,
            100_000,
            1_000_000,
            5_000_000,
            10,
            (0, 1, 2, 3, 4),
        )
        for body in ("hopper", "halfcheetah", "walker2d")
    )


def study(
    name: str,
    task: str,
    recipe: str,
    fraction: float,
    synther_steps: int,
    learner_steps: int,
    transitions: int,
    episodes: int,
    seeds: tuple[int, ...],
) -> Study:
    """Two learners on three datasets each."""
    metric = "normalized_score"
    small = {"network_options": {"width": 64, "depth": 2}} if synther_steps < 100 else {}
    arms = []
    for learner in LEARNERS if synther_steps > 100 else LEARNERS[:1]:
        for source in SOURCES:
            given: dict[str, Any] = {
                "method": learner,
                "task": task,
                "source": source,
                "steps": learner_steps,
                "episodes": episodes,
                "synther_steps": synther_steps,
                "synther": small,
                "transitions": transitions,
                "metric": metric,
            }
            settings = given | {"recipe": recipe, "fraction": fraction}
            arms.append(Arm(f"{learner}_{source}", partial(run_arm, **given), settings))
    about = (
        f"Recipe {recipe} at {fraction:g} of the published size; {learner_steps} learner steps; {transitions} transitions "
        f"synthesized from half of the episodes after {synther_steps} steps; {episodes} episodes a seed."
    )
    return Study(name, metric, tuple(arms), seeds, partial(prepare, recipe=recipe, fraction=fraction), about)


def prepare(shared: Path, *, recipe: str, fraction: float) -> None:
    """All the data and half of its episodes."""
    from diffbot.cli.collect import run as collect
    from diffbot.cli.collect_config import CollectConfig

    collect(CollectConfig(recipe=recipe, fraction=fraction, out=str(shared / ALL), workers="1"))
    if not (shared / HALF).exists():
        rest = shared / "rest.zarr"
        split(EpisodeStore.open(shared / ALL), shared / HALF, rest, 0.5, 0)


def run_arm(
    job: Job,
    *,
    method: str,
    task: str,
    source: str,
    steps: int,
    episodes: int,
    synther_steps: int,
    synther: Mapping[str, Any],
    transitions: int,
    metric: str,
) -> Outcome:
    """One learner on one of the three datasets."""
    figures: dict[str, float] = {}
    dataset = job.shared / (ALL if source == "all" else HALF)
    if source == "half_synther":
        dataset, figures = multiplied(job, synther_steps, synther, transitions)
    outcome = run_learned(
        job,
        method=method,
        options={},
        task=task,
        dataset=str(dataset.resolve()),
        training={
            "steps": steps,
            "threads": 1,
            "validation": 0.0,
            "tensorboard": False,
            "log_every": max(1, steps // 20),
        },
        episodes=episodes,
        metric=metric,
        rollouts={},
        env={},
    )
    # TD3+BC's and IQL's losses move with their values, so that a fall says nothing here.
    kept = {name: value for name, value in outcome.figures.items() if not name.startswith("loss_")}
    return replace(outcome, figures=kept | figures)


def multiplied(
    job: Job, steps: int, options: Mapping[str, Any], transitions: int
) -> tuple[Path, dict[str, float]]:
    """Half of the data and `transitions` drawn by a SynthER that was trained on it, as one dataset.

    Both learners of a seed are given the same one; who comes first makes it.
    """
    folder = job.shared / f"synther_seed_{job.seed}"
    with FileLock(folder.with_suffix(".lock")):
        done = folder / "figures.json"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted call left
            folder.mkdir()
            found = synthesize(folder, job.shared / HALF, job.seed, steps, options, transitions)
            done.write_text(dumps(found, indent=1) + "\n")
    return folder / "both.zarr", loads(done.read_text())


def synthesize(
    folder: Path, dataset: Path, seed: int, steps: int, options: Mapping[str, Any], transitions: int
) -> dict[str, float]:
    """Train, draw, and merge into `folder`/both.zarr; what the checks found and the CPU seconds of all that."""
    config = TrainingConfig(
        steps=steps,
        threads=1,
        validation=0.0,
        tensorboard=False,
        log_every=max(1, steps // 20),
        batch_size=256,
    )
    half = EpisodeStore.open(dataset)
    start = time.process_time()
    spec = runs.RunSpec("synther", build_config("synther", dict(options)), half.path, config, seed)
    result = runs.start(spec, folder / "run").finished()
    model = load_bundle(result.bundle)
    found = check(model, half, seed)
    out = EpisodeStore.create(
        folder / "synthetic.zarr",
        half.contract,
        {"synthetic": True, "method": "synther", "seed": seed, "checks": found.record()},
        independent=True,
    )
    block = min(5000, transitions)
    for number in range(transitions // block):
        out.append(draw(model, block, [seed, number])[0], {"block": number})
    merge([half, EpisodeStore.open(out.path)], folder / "both.zarr")
    figures = {f"synther_{name}": value for name, value in found.record().items()}
    return figures | {"synther_s": time.process_time() - start}


def judge(results: Results) -> Verdict:
    """Both halves. Offline: half and synthetic no worse than all, on average over studies, for both learners."""
    offline, words = judge_offline(results)
    online, more = judge_online(results)
    return Verdict(
        offline and online,
        f"Offline {'holds' if offline else 'does not hold'}, online {'holds' if online else 'does not hold'}. {words}. {more}.",
    )


def judge_offline(results: Results) -> tuple[bool, str]:
    """Means over seeds and studies."""
    names = list(dict.fromkeys(study for study, _ in results.outcomes if not study.startswith(PREFIX)))
    words, holds = [], True
    present = [learner for learner in LEARNERS if (names[0], f"{learner}_all") in results.outcomes]
    for learner in present:
        score = {
            source: float(np.mean([results.mean(name, f"{learner}_{source}") for name in names]))
            for source in SOURCES
        }
        holds &= score["half_synther"] >= score["all"]
        words.append(
            f"{learner}: all {score['all']:.1f}, half {score['half']:.1f}, half and synthetic {score['half_synther']:.1f}"
        )
    return holds, f"Offline, averages over {', '.join(names)}: {'; '.join(words)}"


ROW = Row(
    id="S1",
    system="SynthER",
    paper="Lu et al., NeurIPS 2023",
    claim=(
        "offline: half the data and synthetic at least as good as all the data for TD3+BC and IQL; "
        "online: SAC needs fewer steps to a stated return"
    ),
    studies=studies,
    judge=judge,
)
