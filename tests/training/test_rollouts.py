"""Rollouts in training, and the bundles of the newest checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffbot.errors import ConfigError
from diffbot.methods.bundle import load_bundle
from diffbot.methods.registry import build_config
from diffbot.training.config import TrainingConfig
from diffbot.training.metrics import read_metrics
from diffbot.training.run import RunSpec, resume, start


def spec(dataset: Path, **training: object) -> RunSpec:
    settings = {"batch_size": 32, "checkpoint_every": 1000, "tensorboard": False, "validation": 0.0}
    config = build_config("bc_mlp", {"width": 32})
    return RunSpec("bc_mlp", config, dataset, TrainingConfig(**(settings | training)))  # type: ignore[arg-type]


class Simulator:
    """Answers with given successes, and remembers which step's bundle it was shown."""

    def __init__(self, *successes: float) -> None:
        self.successes = list(successes)
        self.seen: list[tuple[int, int]] = []

    def __call__(self, bundle: Path, episodes: int) -> dict[str, float]:
        self.seen.append((load_bundle(bundle).report["steps"], episodes))
        return {"success": self.successes.pop(0), "steps": 7.0}


def test_rollouts_see_the_policy_of_their_step_and_the_best_is_kept(dataset: Path, tmp_path: Path) -> None:
    simulator = Simulator(0.2, 0.6, 0.4)
    settings = {"steps": 35, "rollout_every": 10, "rollout_episodes": 4}
    result = start(spec(dataset, **settings), tmp_path / "run", simulator)
    assert simulator.seen == [(10, 4), (20, 4), (30, 4)]
    logged = read_metrics(tmp_path / "run", "rollout")
    assert [(line["step"], line["success"]) for line in logged] == [(10, 0.2), (20, 0.6), (30, 0.4)]
    best = load_bundle(tmp_path / "run" / "best")
    assert best.report["steps"] == 20 and best.report["rollout"] == {"success": 0.6, "steps": 7.0}
    assert load_bundle(result.bundle).report["steps"] == 35, "the last policy stays the run's policy"


def test_rollouts_change_nothing_of_the_training(dataset: Path, tmp_path: Path) -> None:
    plain = start(spec(dataset, steps=20), tmp_path / "plain")
    rolled = start(spec(dataset, steps=20, rollout_every=7), tmp_path / "rolled", Simulator(1.0, 0.0))
    ours, theirs = (load_bundle(run.bundle).method.policy_state() for run in (plain, rolled))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_best_of_before_counts_after_resuming(dataset: Path, tmp_path: Path) -> None:
    start(spec(dataset, steps=10, rollout_every=10), tmp_path / "run", Simulator(0.9))
    resume(tmp_path / "run", steps=20, rollouts=Simulator(0.8))
    assert load_bundle(tmp_path / "run" / "best").report["steps"] == 10


def test_rollouts_without_a_simulator_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.rollout_every.*diffbot train"):
        start(spec(dataset, steps=10, rollout_every=5), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bundles_of_the_newest_checkpoints(dataset: Path, tmp_path: Path) -> None:
    result = start(spec(dataset, steps=35, checkpoint_every=10, bundles=3), tmp_path / "run")
    found = {path.name: load_bundle(path) for path in sorted((tmp_path / "run" / "policies").iterdir())}
    assert {name: policy.report["steps"] for name, policy in found.items()} == {
        f"step_{step:08d}": step for step in (20, 30, 35)
    }
    last, kept = (
        load_bundle(result.bundle).method.policy_state(),
        found["step_00000035"].method.policy_state(),
    )
    assert all(torch.equal(last[name], kept[name]) for name in last)
    assert (tmp_path / "run" / "policies" / "step_00000020" / "policy.safetensors").read_bytes() != (
        result.bundle / "policy.safetensors"
    ).read_bytes()
