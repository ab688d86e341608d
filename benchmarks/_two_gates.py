"""Paths through two gates, each labelled with one constraint at most: what composition is measured on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._learned import losses
from benchmarks._rows import Arm, Job, Outcome, Study
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.methods.bundle import LoadedPolicy, load_bundle
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

DATASET = "two_gates.zarr"
STEPS = 16
GATES = {"first_up": 5, "second_up": 10}  # constraint -> step at which y must be above LIMIT
LIMIT = 0.3
TASK = "toy/two_gates"


def paths(count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, STEPS, 2] smooth paths from x = -1 to 1; y at the two gates is drawn independently from [-0.9, 0.9]."""
    knots = np.array([0, *GATES.values(), STEPS - 1])
    heights = np.concatenate(
        [np.zeros((count, 1)), rng.uniform(-0.9, 0.9, (count, 2)), np.zeros((count, 1))], axis=1
    )
    at = np.arange(STEPS)
    smooth = np.stack([np.interp(at, knots, row) for row in heights])
    return np.stack([np.tile(np.linspace(-1, 1, STEPS), (count, 1)), smooth], axis=-1).astype(np.float32)


def satisfied(way: np.ndarray) -> np.ndarray:
    """bool [count, 2]: which constraints paths [count, STEPS, 2] keep."""
    return np.stack([way[:, step, 1] > LIMIT for step in GATES.values()], axis=1)


def record(shared: Path, count: int) -> None:
    """Write the dataset once. A path that keeps both constraints is labelled with one of them, drawn at random."""
    path = shared / DATASET
    if path.exists():
        return
    contract = Contract({"position": Field((2,))}, Action((2,), meaning="delta"), rate=10.0, task=TASK)
    rng = np.random.default_rng(0)
    part = shared / f".{DATASET}.part"
    store = EpisodeStore.create(part, contract)
    names = tuple(GATES)
    with store.writer() as writer:
        for way in paths(count, rng):
            kept = np.flatnonzero(satisfied(way[None])[0])
            label = names[int(rng.choice(kept))] if len(kept) else "none"
            action = np.diff(way, axis=0, append=way[-1:])
            writer.append({"position": way, "action": action}, {"success": True, "constraint": label})
    part.rename(path)


def study(
    count: int,
    training: dict[str, Any],
    samples: int,
    seeds: tuple[int, ...],
    network: dict[str, Any],
    names: tuple[str, ...] = ("composed", *(f"only_{name}" for name in GATES), "unconditional"),
) -> Study:
    """The same model asked for both constraints, for either, and for nothing."""
    both = {name: 1.0 for name in GATES}
    asked: dict[str, dict[str, float]] = {"composed": both, "unconditional": {}}
    asked |= {f"only_{name}": {name: 1.0} for name in GATES}
    arms = []
    for name in names:
        conditions = asked[name]
        settings: dict[str, Any] = {
            "training": training,
            "samples": samples,
            "conditions": conditions,
            "network": network,
        }
        arms.append(Arm(name, partial(run, **settings), settings))
    return Study(
        "two_gates",
        "both_kept",
        tuple(arms),
        seeds,
        partial(record, count=count),
        about=f"{count} paths whose heights at two gates are independent; each is labelled with one constraint it keeps, "
        f"never with two. Value: the share of {samples} sampled paths that keep both.",
    )


def run(
    job: Job, *, training: dict[str, Any], samples: int, conditions: dict[str, float], network: dict[str, Any]
) -> Outcome:
    """Train a Decision Diffuser on the paths and sample under `conditions`."""
    config = TrainingConfig(**{"threads": 1, "validation": 0.0, "tensorboard": False, **training})
    spec = runs.RunSpec(
        "decision_diffuser",
        build_config("decision_diffuser", options_of(network)),
        job.shared / DATASET,
        config,
        job.seed,
    )
    begun = time.process_time()
    result = runs.start(spec, job.folder / "run").finished()
    train_s = time.process_time() - begun
    kept = satisfied(sample(load_bundle(result.bundle), samples, conditions, 100000 + job.seed))
    figures = {name: float(kept[:, i].mean()) for i, name in enumerate(GATES)}
    return Outcome(
        float(kept.all(axis=1).mean()), train_s, result.parameters, {**figures, **losses(job.folder / "run")}
    )


def options_of(network: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the Decision Diffuser of these paths."""
    return {
        "returns": False,
        "label_key": "constraint",
        "labels": [*GATES, "none"],
        "horizon": STEPS,
        "prediction": "sample",
        **network,
    }


def sample(policy: LoadedPolicy, count: int, conditions: Mapping[str, float], seed: int) -> np.ndarray:
    """[count, STEPS, 2] planned paths under weighted conditions."""
    start = torch.tensor([-1.0, 0.0]).expand(count, 1, 2)
    method: Any = policy.method
    with torch.no_grad():
        plan = method.plan(
            policy.transforms.forward({"position": start}),
            generator=torch.Generator().manual_seed(seed),
            conditions=conditions,
        )
    way: torch.Tensor = policy.transforms.inverse({"position": plan.states["position"]})["position"]
    return way.numpy()
