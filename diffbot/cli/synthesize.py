"""`diffbot synthesize`: train a synthesizer on a dataset and write what it draws as a dataset with its provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from diffbot.cli.synthesize_config import SynthesizeConfig
from diffbot.cli.synthesize_output import digest, open_output
from diffbot.cli.verb import Verb
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.data.transitions import into_range, transition_rows
from diffbot.errors import ConfigError, DataError, unknown
from diffbot.evaluation.synthesis import Quality, quality
from diffbot.methods.bundle import LoadedPolicy, load_bundle
from diffbot.methods.registry import methods

TRIAL = 4000


def run(config: SynthesizeConfig) -> int:
    """Train where needed, check a trial, then write block by block; an interrupted command goes on where it stopped."""
    if config.block < 1 or config.transitions < 0:
        raise ConfigError(
            f"block must be at least 1 and transitions 0 or more, got {config.block}, {config.transitions}"
        )
    if hasattr(methods()[config.method.name].cls, "propose"):
        from diffbot.cli import synthesize_demonstrations

        return synthesize_demonstrations.run(config)
    source = EpisodeStore.open(config.dataset)
    bundle = Path(config.bundle) if config.bundle else _train(config)
    synthesizer = load_bundle(bundle)
    if not hasattr(synthesizer.method, "synthesize"):
        known = [name for name, entry in methods().items() if entry.role == "synthesizer"]
        raise unknown("synthesizer", synthesizer.name, known, "diffbot list methods")
    contract = source.contract.select(synthesizer.method.keys)
    contract.require_match(synthesizer.contract.select(synthesizer.method.keys), "dataset", "synthesizer")
    total = config.transitions or sum(len(transition_rows(source, i)["action"]) for i in range(len(source)))
    found = check(synthesizer, source, config.seed)
    problems = found.problems()
    if problems and not config.force:
        raise DataError(
            f"the samples fail their checks, nothing is written: {'; '.join(problems)}. Train longer "
            f"(training.steps=...), or write them all the same and marked: force=true"
        )
    provenance = {
        "synthetic": True,
        "verb": "synthesize",
        "method": synthesizer.name,
        "bundle": digest(bundle),
        "source": source.path.name,
        "source_provenance": source.provenance,
        "seed": config.seed,
        "block": config.block,
        "checks": {"passed": not problems, "problems": problems, **found.record()},
    }
    store = open_output(Path(config.out), contract, provenance)
    blocks = -(-total // config.block)
    if store.steps > total:
        raise DataError(f"'{config.out}' holds {store.steps} transitions already, more than {total}")
    console = Console()
    for number in track(range(len(store), blocks), "synthesize", console=console):
        count = min(config.block, total - number * config.block)
        store.append(draw(synthesizer, count, [config.seed, 1 + number])[0], {"block": number})
    console.print(
        f"{config.out}: {store.steps} transitions of {synthesizer.name}; marginals {found.marginal:.3f} deviations off, "
        f"coverage {found.coverage:.2f}, nearest {found.nearest:.2f}"
        + (f"\nmarked as failing: {'; '.join(problems)}" if problems else ""),
        highlight=False,
    )
    return 0


def draw(synthesizer: LoadedPolicy, count: int, seed: int | list[int]) -> tuple[dict[str, np.ndarray], float]:
    """`count` transitions as the rows of a store, and which part of their actions had to be clipped to the contract.

    The draw depends on `seed` alone.
    """
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) >> 1
    generator = torch.Generator().manual_seed(number)
    method: Any = synthesizer.method
    batch = method.synthesize(count, generator=generator)
    raw = synthesizer.transforms.inverse({**batch.observations, "action": batch.actions})
    following = synthesizer.transforms.inverse(batch.next_observations)
    contract: Contract = synthesizer.contract
    rows = {key: raw[key][:, 0].numpy() for key in method.keys}
    rows |= {f"next_{key}": following[key][:, 0].numpy() for key in synthesizer.method.keys}
    for key in synthesizer.method.keys:
        dtype = contract.observations[key].dtype
        rows[key], rows[f"next_{key}"] = rows[key].astype(dtype), rows[f"next_{key}"].astype(dtype)
    action, outside = into_range(raw["action"][:, 0].numpy(), contract)
    rows["action"] = action.astype(contract.action.dtype)
    rows["reward"] = batch.rewards[:, 0].numpy().astype(np.float32)
    rows["terminated"] = batch.terminals[:, 0].numpy()
    return rows, outside


def check(synthesizer: LoadedPolicy, source: EpisodeStore, seed: int) -> Quality:
    """The quality of a trial draw beside the source's transitions. Raises DataError for values that are not finite."""
    real = gather(source, 4 * TRIAL, seed)
    trial, outside = draw(synthesizer, TRIAL, [seed, 0])
    return quality(real, trial, synthesizer.method.keys, seed=seed, outside=outside)


def gather(store: EpisodeStore, most: int, seed: int) -> dict[str, np.ndarray]:
    """The transitions of episodes in the order that `seed` draws, until there are `most` or all."""
    parts: list[dict[str, np.ndarray]] = []
    found = 0
    for index in np.random.default_rng(seed).permutation(len(store)):
        parts.append(transition_rows(store, int(index)))
        found += len(parts[-1]["action"])
        if found >= most:
            break
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _train(config: SynthesizeConfig) -> Path:
    from diffbot.training import run as runs

    entry = methods()[config.method.name]
    if entry.role != "synthesizer":
        known = [name for name, e in methods().items() if e.role == "synthesizer"]
        raise unknown("synthesizer", config.method.name, known, "diffbot list methods")
    dataset = Path(config.dataset)
    folder = Path(config.run) if config.run else Path("runs") / f"{dataset.stem}_{config.method.name}"
    if (folder / "run.yaml").exists():
        result = runs.resume(folder)
    else:
        spec = runs.RunSpec(config.method.name, config.method.config, dataset, config.training, config.seed)
        result = runs.start(spec, folder)
    if result.outcome.stopped:
        raise DataError(
            f"training in '{folder}' was stopped by {result.outcome.stopped}; the same command goes on"
        )
    return result.bundle


VERB = Verb(
    "multiply a dataset with a synthesizer",
    SynthesizeConfig,
    run,
    (
        "diffbot synthesize method=synther dataset=datasets/hopper-medium.zarr out=datasets/hopper-synthetic.zarr",
        "diffbot synthesize method=demo_augmentation dataset=datasets/lift.zarr sources=10 episodes=190 out=datasets/more.zarr",
        "diffbot synthesize bundle=runs/hopper_synther/policy dataset=datasets/hopper.zarr transitions=1000000 out=more.zarr",
    ),
)
