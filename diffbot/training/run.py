"""A run folder: what was asked for, checkpoints, metrics and the policy bundle.

run.yaml                 method, its settings, training settings, dataset and seed
statistics.safetensors   what the transforms were fitted to
metrics.jsonl            one line of metrics a time, also as tensorboard/
checkpoints/step_*       the newest states, for resume
policy/                  the bundle, written with every checkpoint
policies/step_*          bundles of the newest checkpoints, when training.bundles asks for them
best/                    the bundle with the highest success of the rollouts in training, where there were any
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from diffbot.data.transforms import TransformGroup
from diffbot.errors import BundleError, ConfigError, ContractError, DataError, DiffbotError
from diffbot.methods.bundle import (
    atomic_folder,
    load_tensors,
    plain,
    remove_leftovers,
    save_bundle,
    save_tensors,
)
from diffbot.methods.registry import build_config, method_by_name
from diffbot.training.accelerator import FabricAccelerator
from diffbot.training.checkpoint import list_checkpoints, newest_checkpoint
from diffbot.training.config import DEFAULT_STEPS, TrainingConfig
from diffbot.training.data import TrainingData, load_data
from diffbot.training.metrics import read_metrics
from diffbot.training.trainer import Outcome, Trainer

RUN_FILE, STATISTICS_FILE = "run.yaml", "statistics.safetensors"

# (bundle, episodes) -> metrics, "success" among them: simulation comes from outside, training knows no simulator.
Rollouts = Callable[[Path, int], Mapping[str, float]]


@dataclass(frozen=True)
class RunSpec:
    """What was asked for. episodes: how many of the dataset's are used, from its first on; None until it is opened."""

    method: str
    config: Any
    dataset: Path
    training: TrainingConfig
    seed: int = 0
    task: str = ""
    episodes: int | None = None
    transforms: dict[str, Any] | None = None  # the spec of the transforms, once fitted


@dataclass(frozen=True)
class RunResult:
    """Where the run lies, its bundle, and how it ended."""

    folder: Path
    bundle: Path
    outcome: Outcome
    parameters: int

    def finished(self) -> RunResult:
        """This result, of a training that spent its budget. Raises DiffbotError for one that a signal cut short."""
        if self.outcome.stopped:
            raise DiffbotError(
                f"the training in '{self.folder}' was stopped by {self.outcome.stopped} at step {self.outcome.step}. "
                f"Continue it: diffbot train resume={self.folder}"
            )
        return self


def start(spec: RunSpec, folder: Path, rollouts: Rollouts | None = None) -> RunResult:
    """Train anew in `folder`; `rollouts` is called as often as `training.rollout_every` says.

    Raises ConfigError when a run is there already, or when rollouts are asked for and none are given.
    """
    if (folder / RUN_FILE).exists():
        raise ConfigError(
            f"'{folder}' holds a run already. Continue it: diffbot train resume={folder}. Or choose another out="
        )
    _check_rollouts(spec.training, rollouts)
    _set_threads(spec.training)
    accelerator = FabricAccelerator.launch(spec.training)
    data = _open(spec, None)
    spec = dataclasses.replace(spec, episodes=len(data.store), transforms=plain(data.transforms.spec()))
    trainer = _trainer(spec, data, folder, accelerator, rollouts)
    if trainer.first:
        write_spec(folder, spec, data.transforms)
    accelerator.barrier()
    return _finish(trainer, spec)


def resume(
    folder: Path, *, steps: int | None = None, minutes: float | None = None, rollouts: Rollouts | None = None
) -> RunResult:
    """Continue a run from its newest whole checkpoint; `steps` or `minutes` replace its budget.

    With an unchanged budget in steps the result equals that of an uninterrupted run.
    Raises DataError or ConfigError where run, checkpoint or dataset are not there or do not fit.
    """
    spec, transforms = read_spec(folder)
    if steps is not None or minutes is not None:
        spec = dataclasses.replace(
            spec, training=dataclasses.replace(spec.training, steps=steps, minutes=minutes)
        )
    _check_rollouts(spec.training, rollouts)
    _set_threads(spec.training)
    accelerator = FabricAccelerator.launch(spec.training)
    if accelerator.rank == 0:
        for place in (folder, folder / "checkpoints", folder / "policies"):
            remove_leftovers(place)
    data = _open(spec, transforms)
    trainer = _trainer(spec, data, folder, accelerator, rollouts)
    if any(trainer.checkpoints.glob("step_*")):
        _, state = newest_checkpoint(trainer.checkpoints)
        trainer.load_state(state)
    return _finish(trainer, spec)


def write_spec(folder: Path, spec: RunSpec, transforms: TransformGroup) -> None:
    """Write run.yaml last, so that a folder that has it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / STATISTICS_FILE, transforms.statistics())
    record = {"format": 1, "version": version("diffbot"), **plain(spec)}
    record["dataset"] = str(spec.dataset.resolve())
    part = folder / f".{RUN_FILE}.part"
    part.write_text(yaml.safe_dump(record, sort_keys=False))
    os.replace(part, folder / RUN_FILE)


def read_spec(folder: Path) -> tuple[RunSpec, TransformGroup]:
    """Inverse of `write_spec`. Raises DataError where the folder is no run or its files are damaged."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise DataError(f"'{folder}' is not a training run: it has no {RUN_FILE}. Give the folder runs/NAME")
    try:
        record = yaml.safe_load(path.read_text())
        training = TrainingConfig(**record["training"])
        config = build_config(record["method"], record["config"])
        transforms = TransformGroup.from_spec(record["transforms"], load_tensors(folder / STATISTICS_FILE))
        names = ("method", "seed", "task", "episodes", "transforms")
        values = {name: record[name] for name in names}
        spec = RunSpec(config=config, dataset=Path(record["dataset"]), training=training, **values)
    except (OSError, TypeError, KeyError, ValueError, yaml.YAMLError, BundleError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from error
    return spec, transforms


def _open(spec: RunSpec, transforms: TransformGroup | None) -> TrainingData:
    data = load_data(
        spec.dataset,
        method_by_name(spec.method).cls,
        spec.config,
        held_out=spec.training.validation,
        seed=spec.seed,
        episodes=spec.episodes,
        transforms=transforms,
    )
    recorded = data.contract.task
    if spec.task and recorded and spec.task != recorded:
        raise ContractError(
            f"'{spec.dataset}' holds episodes of task '{recorded}', not of '{spec.task}'. "
            f"Give task={recorded}, or the dataset of '{spec.task}' by dataset=PATH"
        )
    return data


def _check_rollouts(training: TrainingConfig, rollouts: Rollouts | None) -> None:
    if training.rollout_every and rollouts is None:
        raise ConfigError(
            "training.rollout_every asks for rollouts in simulation, but none were given: use `diffbot train`, or hand "
            "`start` a function from (bundle, episodes) to metrics"
        )


def _trainer(
    spec: RunSpec,
    data: TrainingData,
    folder: Path,
    accelerator: FabricAccelerator,
    rollouts: Rollouts | None,
) -> Trainer:
    method = method_by_name(spec.method).cls(spec.config, data.method_contract, seed=spec.seed)
    trainer = Trainer(
        method, data, spec.training, folder, accelerator, seed=spec.seed, title=f"train {spec.method}"
    )
    trainer.on_save = lambda: _write_bundles(trainer, spec)
    if rollouts is not None:
        trainer.on_rollout = lambda: _roll_out(folder, rollouts, spec.training.rollout_episodes)
    return trainer


def _roll_out(folder: Path, rollouts: Rollouts, episodes: int) -> dict[str, float]:
    """Metrics of the present bundle; it is kept as best/ too where no earlier one succeeded more often."""
    metrics = {name: float(value) for name, value in rollouts(folder / "policy", episodes).items()}
    before = [line["success"] for line in read_metrics(folder, "rollout")]
    if metrics["success"] >= max(before, default=0.0):
        _copy_bundle(folder / "policy", folder / "best", metrics)
    return metrics


def _copy_bundle(bundle: Path, target: Path, rollout: Mapping[str, float] | None = None) -> None:
    """Copy a bundle as one whole; `rollout` goes into its report."""
    with atomic_folder(target) as part:
        shutil.copytree(bundle, part, dirs_exist_ok=True)
        if rollout is not None:
            report = json.loads((part / "report.json").read_text())
            (part / "report.json").write_text(
                json.dumps(report | {"rollout": dict(rollout)}, indent=2) + "\n"
            )


def _write_bundles(trainer: Trainer, spec: RunSpec) -> None:
    """policy/, and where asked for the newest ones under policies/."""
    _write_bundle(trainer, spec)
    if spec.training.bundles:
        policies = trainer.folder / "policies"
        _copy_bundle(trainer.folder / "policy", policies / f"step_{trainer.step:08d}")
        for _, old in list_checkpoints(policies)[: -spec.training.bundles]:
            shutil.rmtree(old)


def _write_bundle(trainer: Trainer, spec: RunSpec) -> None:
    report = {
        "task": spec.task or trainer.data.contract.task,
        "dataset": spec.dataset.name,
        "episodes": spec.episodes,
        "windows": len(trainer.data.train),
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "seed": spec.seed,
        "batch_size": spec.training.batch_size,
        "parameters": parameter_count(trainer.method),
        "loss": trainer.latest.get("loss"),
        "validation_loss": trainer.latest_validation.get("loss"),
        "versions": {"diffbot": version("diffbot"), "torch": torch.__version__},
    }
    save_bundle(
        trainer.folder / "policy",
        name=spec.method,
        method=trainer.method,
        transforms=trainer.data.transforms,
        contract=trainer.data.contract,
        report=report,
    )


def _finish(trainer: Trainer, spec: RunSpec) -> RunResult:
    outcome = trainer.run()
    return RunResult(trainer.folder, trainer.folder / "policy", outcome, parameter_count(trainer.method))


def parameter_count(method: Any) -> int:
    """Number of weights that act."""
    return sum(value.numel() for value in method.policy_state().values())


def planned_steps(training: TrainingConfig) -> int | None:
    """Steps of the budget; None when it is in minutes."""
    return None if training.minutes is not None else training.steps or DEFAULT_STEPS


def _set_threads(training: TrainingConfig) -> None:
    if training.threads is not None:
        torch.set_num_threads(training.threads)
