"""Composition of constraints by a Decision Diffuser (Ajay et al. 2023, Sec. 4.3 and Fig. 4): two that were never given together.

The data are paths through two gates; each is labelled with one constraint that it keeps, "high at the first gate" or "high
at the second". The same model then plans under nothing, under either, under both, and under one but not the other.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _two_gates as gates
from diffbot.evaluation.bench import BenchResult
from diffbot.methods.bundle import load_bundle
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

SUMMARY = "Decision Diffuser: plans under two constraints that no demonstration was labelled with together"
FIRST, SECOND = gates.GATES
ASKED: dict[str, dict[str, float]] = {
    "nothing": {},
    "first": {FIRST: 1.0},
    "second": {SECOND: 1.0},
    "both": {FIRST: 1.0, SECOND: 1.0},
    "first_not_second": {FIRST: 1.0, SECOND: -1.0},
}


@dataclass(frozen=True)
class Config:
    """Sizes and strengths."""

    paths: int = 2000  # of the data
    steps: int = 400  # gradient steps
    batch_size: int = 64
    samples: int = 512  # planned paths under each set of conditions
    weight: float = 1.0  # of every condition
    seed: int = 0
    figure: str = ""  # where the picture goes, docs/figures/composition.png; empty: nowhere


NETWORK = {"network_options": {"down_dims": [16, 32]}, "optimizer": {"learning_rate": 2e-3}}


def run(config: Config) -> BenchResult:
    """Train once, plan under every set of conditions."""
    with tempfile.TemporaryDirectory(prefix="diffbot-composition-") as scratch:
        folder = Path(scratch)
        gates.record(folder, config.paths)
        training = TrainingConfig(
            steps=config.steps, batch_size=config.batch_size, validation=0.0, threads=1, tensorboard=False
        )
        settings = build_config("decision_diffuser", gates.options_of(NETWORK))
        spec = runs.RunSpec(
            "decision_diffuser", settings, folder / gates.DATASET, training, config.seed, gates.TASK
        )
        policy = load_bundle(runs.start(spec, folder / "run").finished().bundle)
    ways: dict[str, np.ndarray] = {}
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    for name, conditions in ASKED.items():
        weighted = {label: config.weight * weight for label, weight in conditions.items()}
        ways[name] = gates.sample(policy, config.samples, weighted, 100000 + config.seed)
        kept = gates.satisfied(ways[name])
        shares = {
            "first_kept": float(kept[:, 0].mean()),
            "second_kept": float(kept[:, 1].mean()),
            "both_kept": float(kept.all(axis=1).mean()),
        }
        figures |= {f"{name}.{key}": value for key, value in shares.items()}
        rows.append({"asked for": name, **shares})
    if config.figure:
        draw(ways, Path(config.figure))
    notes = f"{config.paths} paths, {config.steps} gradient steps, shares of {config.samples} plans above {gates.LIMIT} at the gates."
    return BenchResult(figures, rows, [config.seed], notes)


def draw(ways: dict[str, np.ndarray], path: Path) -> None:
    """One panel for each set of conditions: 40 plans, and the limit at each gate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * len(ways), 2.3), layout="constrained")
    for axes, (name, plans) in zip(figure.subplots(1, len(ways), sharey=True), ways.items(), strict=True):
        for plan, good in zip(plans[:40], gates.satisfied(plans[:40]).all(axis=1), strict=True):
            axes.plot(*plan.T, color="tab:green" if good else "tab:gray", alpha=0.6, linewidth=0.9)
        for step in gates.GATES.values():
            axes.plot([plans[0, step, 0]] * 2, [-1.0, gates.LIMIT], color="black", linewidth=2)
        share = gates.satisfied(plans).all(axis=1).mean()
        axes.set_title(f"{name.replace('_', ' ')}: {share:.0%} keep both", fontsize=8)
        axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
