"""`diffbot collect`: scripted experts fill a dataset, on all cores, and the same command continues after a kill."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import sim_envs
from diffbot import __version__
from diffbot.cli.collect_config import CollectConfig
from diffbot.cli.collect_parts import FIRST_EVALUATION_SEED, Plan, parts_of
from diffbot.cli.collect_recipe import with_recipe
from diffbot.cli.collect_worker import Job, WorkerPool
from diffbot.cli.verb import Verb
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.data.writer import Writer
from diffbot.errors import ConfigError, DataError

BATCH_S = 1.0  # s of episodes that are committed together; what a kill may cost


def run(config: CollectConfig) -> int:
    """Record until the dataset holds the asked number of episodes or steps."""
    if config.recipe:
        config = with_recipe(config)
    _check(config)
    if config.device:
        from diffbot.cli.collect_device import run_device

        return run_device(config)
    spec = sim_envs.spec(config.task)
    options: dict[str, Any] = {str(key): value for key, value in config.env.items()}
    amount = round((config.steps or config.episodes) * (config.fraction or 1.0))
    parts = parts_of(config.quality, config.mix, config.seed, amount)
    experts = [sim_envs.expert(config.task, seed=0, quality=part.quality) for part in parts]
    size = (config.image_size[0], config.image_size[1])
    pictures = {"cameras": tuple(config.cameras), "image_size": size} if config.cameras else {}
    env: Any = sim_envs.make(config.task, **options, **pictures)
    contract = Contract.from_dict(env.unwrapped.contract())
    env.close()
    provenance = {
        "verb": "collect",
        "task": spec.id,
        "quality": "mix" if config.mix else config.quality,
        "expert_version": ",".join(dict.fromkeys(expert.version for expert in experts)),
        "first_seed": config.seed,
        "keep_failures": config.keep_failures,
        "env": options,
        **({"parts": [part.to_list() for part in parts]} if config.mix else {}),
        **({"recipe": config.recipe, **_size(config)} if config.recipe else {}),
        "versions": {"diffbot": __version__, **_versions()},
    }
    path = Path(config.out) if config.out else default_path(config)
    console = Console()
    store = _open(path, contract, provenance, config)
    plan = Plan(parts, in_steps=config.steps > 0)
    _count(plan, store)
    if plan.full:
        console.print(
            f"{path} already holds {len(store)} episodes, {store.steps} steps. {_more(config, len(store))}"
        )
        return 0
    if len(store):
        console.print(f"{path} holds {len(store)} episodes; continuing to {amount}{' steps' * plan.in_steps}")
    job = Job(config.task, config.quality, options, tuple(config.cameras), size, config.keep_failures, parts)
    workers = _workers(config.workers)
    if not plan.in_steps:
        workers = min(workers, plan.size - plan.have)
    try:
        tried, kept, replaced = _record(store, job, plan, workers, console)
    except KeyboardInterrupt:
        store.refresh()
        console.print(f"\nstopped: {len(store)} whole episodes are in {path}; the same command continues")
        return 130
    store.refresh()
    note = f", {replaced} dead workers replaced" if replaced else ""
    outcome = f"the expert succeeded in {kept} of {tried} tries"
    if config.keep_failures:
        outcome = f"mean return {store.meta('return').mean():.1f}, {int(store.meta('success').sum())} ended in success"
    console.print(f"{path}: {len(store)} episodes, {store.steps} steps; {outcome}{note}", soft_wrap=True)
    return 0


def default_path(config: CollectConfig) -> Path:
    """Where the dataset lands when `out` is not given."""
    name = config.task.removeprefix("robosuite/").replace("/", "_")
    name += "_images" if config.cameras else ""
    name += "" if config.quality == "expert" else f"_{config.quality}"
    return Path("datasets") / f"{name}.zarr"


def _record(
    store: EpisodeStore, job: Job, plan: Plan, workers: int, console: Console
) -> tuple[int, int, int]:
    """Append until the plan is full; returns tries, successes and replaced workers."""
    tried = succeeded = 0
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    # The store is created before and closed after the pool, so that a failing worker leaves a whole dataset behind.
    with WorkerPool(job, workers) as pool, store.writer() as writer, progress, _Batches(writer) as batches:
        # Counted under the writer's lock: another collection may just have ended.
        store.refresh()
        _count(plan, store)
        bar = progress.add_task(job.task, total=plan.size, completed=plan.have, rate="")
        for episode in pool.episodes(plan):
            if not plan.belongs(episode.seed):
                continue
            tried, succeeded = tried + 1, succeeded + episode.success
            if episode.arrays:
                batches.add(episode.arrays, episode.meta)
                plan.add(episode.steps)
            progress.update(bar, completed=plan.have, rate=f"success {succeeded}/{tried}")
            if plan.full:
                break
            if tried >= 50 and succeeded < 0.05 * tried and not job.keep_failures:
                raise DataError(
                    f"the {job.quality} expert of '{job.task}' succeeded in {succeeded} of {tried} tries. "
                    "Record failures too: keep_failures=true"
                )
        replaced = pool.replaced
    if not plan.full:
        raise DataError(
            f"the collection seeds end at {FIRST_EVALUATION_SEED} with {plan.size - plan.have} "
            f"{'steps' if plan.in_steps else 'episodes'} missing; start lower: seed=0"
        )
    return tried, succeeded, replaced


class _Batches:
    """Writes episodes together that come within a second: many are shorter than what it costs to commit one.

    Whatever ends the collection but a kill (Ctrl-C, an error, a dead worker) leaves nothing unwritten.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: list[tuple[dict[str, np.ndarray], dict[str, Any]]] = []
        self._written = time.monotonic()

    def __enter__(self) -> _Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Write this episode, now or soon."""
        self._waiting.append((arrays, meta))
        if time.monotonic() - self._written >= BATCH_S:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._writer.append_all(waiting)
        self._written = time.monotonic()


def _count(plan: Plan, store: EpisodeStore) -> None:
    if len(store):
        plan.resume(np.asarray(store.meta("seed")), store.episode_lengths)


def _more(config: CollectConfig, episodes: int) -> str:
    if config.mix:
        return "Another size is another dataset: fraction=... out=..."
    if config.recipe:
        return "Ask for more: fraction=..."
    return (
        f"Ask for more: steps={2 * config.steps}"
        if config.steps
        else f"Ask for more: episodes={2 * episodes}"
    )


def _size(config: CollectConfig) -> dict[str, Any]:
    """For the provenance of a recipe: the published size and which part of it is asked for."""
    unit = "steps" if config.steps else "episodes"
    size = {"published": config.published, f"published_{unit}": config.steps or config.episodes}
    return {**size, "fraction": config.fraction or 1.0}


def _open(path: Path, contract: Contract, provenance: dict[str, Any], config: CollectConfig) -> EpisodeStore:
    """A new store, or the existing one when it is the same collection."""
    if not path.exists():
        return EpisodeStore.create(path, contract, provenance)
    if not config.resume:
        raise DataError(f"{path} exists. Continue it with resume=true, or choose another: out=...")
    store = EpisodeStore.open(path, "a")
    for name in ("task", "quality", "expert_version", "first_seed", "keep_failures", "env", "parts"):
        old, new = store.provenance.get(name), provenance.get(name)
        if old != new:
            raise DataError(
                f"{path} was recorded with {name}={old!r}, not {new!r}. Choose another dataset: out=..."
            )
    contract.require_match(store.contract, "this command", str(path))
    store.contract.require_match(contract, str(path), "this command")
    return store


def _check(config: CollectConfig) -> None:
    if not config.task:
        raise ConfigError("missing: task=... (diffbot list tasks), or recipe=...")
    if config.episodes < 1:
        raise ConfigError(f"episodes must be at least 1, got {config.episodes}")
    if not 0 <= config.seed < FIRST_EVALUATION_SEED:
        raise ConfigError(
            f"seed must be from 0 to {FIRST_EVALUATION_SEED - 1} (evaluation uses the seeds above), got {config.seed}"
        )
    if config.steps < 0 or not config.fraction >= 0:
        raise ConfigError(
            f"steps and fraction must not be negative, got {config.steps} and {config.fraction}"
        )
    _workers(config.workers)
    if len(config.image_size) != 2 or min(config.image_size) < 1:
        raise ConfigError(f"image_size is [height,width], got {list(config.image_size)}")


def _workers(text: str) -> int:
    if text == "auto":
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"workers must be 'auto' or a positive number, got '{text}'")
    return int(text)


def _versions() -> dict[str, str]:
    from sim_envs.recording import versions

    return versions()


VERB = Verb(
    "record demonstrations of a scripted expert, or of a person with a device",
    CollectConfig,
    run,
    (
        "diffbot collect task=robosuite/lift episodes=100",
        "diffbot collect task=robosuite/lift episodes=100 'cameras=[agentview,robot0_eye_in_hand]'",
        "diffbot collect task=robosuite/lift device=browser episodes=10 operator=ada",
        "diffbot collect recipe=pointmaze-umaze fraction=0.05",
        "diffbot collect task=robosuite/stack quality=okay keep_failures=true out=datasets/stack_okay.zarr",
    ),
)
