"""The run folder of an agent that explores: as that of a training on a dataset, with `online` in its run.yaml."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from diffbot.data.contract import Contract
from diffbot.data.replay import ReplayBuffer
from diffbot.data.transforms import TransformGroup
from diffbot.errors import BundleError, ConfigError, DataError
from diffbot.methods.bundle import load_tensors, plain, remove_leftovers, save_bundle, save_tensors
from diffbot.methods.registry import build_config, method_by_name, methods
from diffbot.training.accelerator import FabricAccelerator
from diffbot.training.checkpoint import newest_checkpoint
from diffbot.training.config import TrainingConfig
from diffbot.training.explorer import Explorer, action_range
from diffbot.training.online import OnlineTrainer
from diffbot.training.online_config import OnlineConfig, SynthesisConfig
from diffbot.training.run import RUN_FILE, STATISTICS_FILE, RunResult, parameter_count

MakeEnv = Callable[[], Any]
"""An environment of the task: simulation comes from outside, training knows no simulator."""


@dataclass(frozen=True)
class OnlineSpec:
    """What was asked for. transforms: their spec, once fitted."""

    method: str
    config: Any
    task: str
    online: OnlineConfig
    training: TrainingConfig
    seed: int = 0
    transforms: dict[str, Any] | None = None


def start(spec: OnlineSpec, folder: Path, make_env: MakeEnv) -> RunResult:
    """Train anew in `folder`. Raises ConfigError when a run is there already, or for a method that does not explore."""
    if (folder / RUN_FILE).exists():
        raise ConfigError(
            f"'{folder}' holds a run already. Continue it: diffbot train resume={folder}. Or choose another out="
        )
    check(spec)
    accelerator = _launch(spec)
    explorer, contract = _explorer(spec, make_env)
    _random_steps(explorer, contract, spec)
    transforms = _fit(spec, explorer.buffer, contract)
    spec = dataclasses.replace(spec, transforms=plain(transforms.spec()))
    trainer = _trainer(spec, explorer, transforms, contract, make_env, folder, accelerator)
    write_spec(folder, spec, transforms)
    return _finish(trainer)


def resume(folder: Path, make_env: MakeEnv, *, steps: int | None = None) -> RunResult:
    """Continue a run from its newest whole checkpoint; `steps` replaces its budget in environment steps.

    Without it the result equals that of an uninterrupted run. Raises DataError where the run or its checkpoints cannot
    be read.
    """
    spec, transforms = read_spec(folder)
    if steps is not None:
        spec = dataclasses.replace(spec, online=dataclasses.replace(spec.online, steps=steps))
    accelerator = _launch(spec)
    for place in (folder, folder / "checkpoints"):
        remove_leftovers(place)
    explorer, contract = _explorer(spec, make_env)
    saved = any((folder / "checkpoints").glob("step_*"))
    if not saved:
        _random_steps(explorer, contract, spec)
    trainer = _trainer(spec, explorer, transforms, contract, make_env, folder, accelerator)
    if saved:
        trainer.load_state(newest_checkpoint(trainer.checkpoints)[1])
    return _finish(trainer)


def explores(method: str) -> bool:
    """Whether a method gathers its own data."""
    return hasattr(method_by_name(method).cls, "explore")


def is_online(folder: Path) -> bool:
    """Whether a run folder is that of an agent that explores. False where there is no readable run."""
    try:
        record = yaml.safe_load((folder / RUN_FILE).read_text())
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(record, dict) and "online" in record


def check(spec: OnlineSpec) -> None:
    """Raise ConfigError for what does not go together, before anything is simulated."""
    if not explores(spec.method):
        names = [name for name in methods() if explores(name)]
        raise ConfigError(
            f"method '{spec.method}' learns from a dataset; methods that explore: {', '.join(names)}"
        )
    if spec.training.steps is not None or spec.training.minutes is not None:
        raise ConfigError("an agent that explores has a budget in environment steps: online.steps=...")
    if spec.online.random_steps >= spec.online.steps:
        raise ConfigError(
            f"online.random_steps={spec.online.random_steps} leaves nothing to learn in online.steps={spec.online.steps}"
        )
    if spec.training.rollout_every or spec.training.bundles:
        raise ConfigError(
            "training.rollout_every and training.bundles go with datasets; an agent that explores is evaluated every "
            "online.evaluate_every steps"
        )
    if spec.training.devices != "1" or spec.training.nodes > 1:
        raise ConfigError("an agent explores in one process: training.devices=1 training.nodes=1")
    for name in ("horizon", "observation_horizon"):
        if getattr(spec.config, name) != 1:
            raise ConfigError(
                f"an agent explores step by step: method.{name}=1, got {getattr(spec.config, name)}"
            )


def _launch(spec: OnlineSpec) -> FabricAccelerator:
    if spec.training.threads is not None:
        torch.set_num_threads(spec.training.threads)
    return FabricAccelerator.launch(spec.training)


def _explorer(spec: OnlineSpec, make_env: MakeEnv) -> tuple[Explorer, Contract]:
    env = make_env()
    contract = Contract.from_dict(env.unwrapped.contract())
    keys = tuple(spec.config.keys) or contract.state_keys
    buffer = ReplayBuffer(contract, keys, min(spec.online.capacity, spec.online.steps))
    return Explorer(env, buffer, spec.seed), contract


def _random_steps(explorer: Explorer, contract: Contract, spec: OnlineSpec) -> None:
    """Actions uniform over their range."""
    low, high = action_range(contract)
    rng = np.random.default_rng([spec.seed, 3])
    for _ in range(spec.online.random_steps):
        explorer.step(rng.uniform(low, high).astype(contract.action.dtype))


def _fit(spec: OnlineSpec, replay: ReplayBuffer, contract: Contract) -> TransformGroup:
    """Observations as the random steps showed them; the action's range to [-1, 1]."""
    transforms: TransformGroup = method_by_name(spec.method).cls.transforms(spec.config, contract)
    transforms.transforms["action"] = TransformGroup.default(contract, "min_max").transforms["action"]
    seen = {name: replay.arrays[name][: len(replay)] for name in replay.keys}
    return transforms.fit({**seen, "action": np.stack(action_range(contract))})


def _trainer(
    spec: OnlineSpec,
    explorer: Explorer,
    transforms: TransformGroup,
    contract: Contract,
    make_env: MakeEnv,
    folder: Path,
    accelerator: FabricAccelerator,
) -> OnlineTrainer:
    seen = contract.select(explorer.buffer.keys)
    method = method_by_name(spec.method).cls(
        spec.config, transforms.transformed_contract(seen), seed=spec.seed
    )
    trainer = OnlineTrainer(
        method,
        explorer,
        transforms,
        make_env,
        spec.online,
        spec.training,
        folder,
        accelerator,
        contract=contract,
        seed=spec.seed,
        title=f"train {spec.method}",
    )
    trainer.on_save = lambda: _write_bundle(trainer, spec, contract)
    return trainer


def _write_bundle(trainer: OnlineTrainer, spec: OnlineSpec, contract: Contract) -> None:
    report = {
        "task": spec.task,
        "environment_steps": trainer.step,
        "updates_per_step": spec.online.updates_per_step,
        "seconds": round(trainer.seconds, 1),
        "seed": spec.seed,
        "batch_size": spec.training.batch_size,
        "parameters": parameter_count(trainer.method),
        "evaluation": trainer.latest_evaluation,
        "versions": {"diffbot": version("diffbot"), "torch": torch.__version__},
    }
    if spec.online.synthesis.every:
        report["synthesis"] = plain(spec.online.synthesis)
    save_bundle(
        trainer.folder / "policy",
        name=spec.method,
        method=trainer.method,
        transforms=trainer.transforms,
        contract=contract,
        report=report,
    )


def _finish(trainer: OnlineTrainer) -> RunResult:
    try:
        outcome = trainer.run()
    finally:
        trainer.explorer.env.close()
    return RunResult(trainer.folder, trainer.folder / "policy", outcome, parameter_count(trainer.method))


def write_spec(folder: Path, spec: OnlineSpec, transforms: TransformGroup) -> None:
    """Write run.yaml last, so that a folder that has it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / STATISTICS_FILE, transforms.statistics())
    record = {"format": 1, "version": version("diffbot"), **plain(spec)}
    part = folder / f".{RUN_FILE}.part"
    part.write_text(yaml.safe_dump(record, sort_keys=False))
    os.replace(part, folder / RUN_FILE)


def read_spec(folder: Path) -> tuple[OnlineSpec, TransformGroup]:
    """Inverse of `write_spec`. Raises DataError where the folder is no such run or its files are damaged."""
    path = folder / RUN_FILE
    try:
        record = yaml.safe_load(path.read_text())
        online = dict(record["online"])
        online["synthesis"] = SynthesisConfig(**online["synthesis"])
        spec = OnlineSpec(
            config=build_config(record["method"], record["config"]),
            online=OnlineConfig(**online),
            training=TrainingConfig(**record["training"]),
            **{name: record[name] for name in ("method", "task", "seed", "transforms")},
        )
        statistics = load_tensors(folder / STATISTICS_FILE)
        transforms = TransformGroup.from_spec(record["transforms"], statistics)
    except (OSError, TypeError, KeyError, ValueError, yaml.YAMLError, BundleError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from error
    return spec, transforms
