"""The policy behind `bench engine`: a U-Net trained on Lift, evaluated through every back end on the same seeds."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffbot.cli.collect import run as collect
from diffbot.cli.collect_config import CollectConfig
from diffbot.errors import ConfigError
from diffbot.evaluation.evaluate import EVALUATION_SEED, RolloutSettings, evaluate, summarize
from diffbot.methods.bundle import LoadedPolicy, load_bundle, save_bundle
from diffbot.methods.registry import build_config, method_by_name
from diffbot.networks.unet import UNet
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

TASK = "robosuite/lift"


@dataclass(frozen=True)
class LiftConfig:
    """The policy on Lift whose success stands beside the speed."""

    success: bool = True  # train and evaluate a policy on Lift
    policy: str = ""  # a diffusion_policy with a U-Net; default: trained in folder/lift
    folder: str = "runs/engine"  # of that policy and its evaluations; finished parts are used again
    demonstrations: int = 100  # episodes of datasets/lift.zarr
    down_dims: tuple[int, ...] = (64, 128, 256)  # of that policy's U-Net
    train_steps: int = 1500  # gradient steps of that policy, batch 64
    episodes: int = 50  # evaluation seeds


def trained(config: LiftConfig) -> LoadedPolicy:
    """The given policy, or one that is trained (or continued, or found finished) in `config.folder`.

    Raises ConfigError unless it is a diffusion policy with a U-Net.
    """
    folder = Path(config.policy) if config.policy else Path(config.folder) / "lift"
    if not config.policy:
        _train(config, folder)
    loaded = load_bundle(folder)
    if loaded.name != "diffusion_policy" or not isinstance(unet_of(loaded), UNet):
        raise ConfigError(f"policy='{folder}' must be a diffusion_policy with network=unet")
    return loaded


def unet_of(loaded: LoadedPolicy) -> Any:
    """The network that acts."""
    return loaded.method.model["network"]  # type: ignore[attr-defined]


def _train(config: LiftConfig, folder: Path) -> None:
    if (folder / "run.yaml").exists():
        result = runs.resume(folder, steps=config.train_steps)
    else:
        dataset = Path("datasets/lift.zarr")
        collect(CollectConfig(task=TASK, episodes=config.demonstrations, out=str(dataset)))
        options = {
            "network": "unet",
            "network_options": {"down_dims": list(config.down_dims)},
            "prediction": "v",  # noise says nothing at the first step, on which a one-step sampler relies
        }
        training = TrainingConfig(
            steps=config.train_steps,
            batch_size=64,
            precision="bf16-mixed",
            validation=0.0,
            checkpoint_every=250,
            tensorboard=False,
        )
        settings = build_config("diffusion_policy", options)
        result = runs.start(runs.RunSpec("diffusion_policy", settings, dataset, training, 0, TASK), folder)
    result.finished()


def success(config: LiftConfig, loaded: LoadedPolicy, backend: str, steps: int) -> dict[str, Any]:
    """The evaluation with `steps` DDIM steps through a back end; read again when the same weights were evaluated so."""
    import sim_envs

    assert loaded.path is not None
    bundle = _with_steps(loaded, steps, Path(config.folder) / f"ddim_{steps}")
    key = {
        "files": json.loads((bundle / "manifest.json").read_text())["files"],
        "episodes": config.episodes,
        "backend": backend,
    }
    file = Path(config.folder) / f"success_{backend}_{steps}.json"
    if file.exists():
        known = json.loads(file.read_text())
        if known["key"] == key:
            return known["record"]
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + config.episodes)
    settings = RolloutSettings(horizon=sim_envs.spec(TASK).horizon, backend=backend)
    record = summarize(list(evaluate(functools.partial(sim_envs.make, TASK), bundle, seeds, settings)))
    file.write_text(json.dumps({"key": key, "record": record}) + "\n")
    return record


def _with_steps(loaded: LoadedPolicy, steps: int, target: Path) -> Path:
    """A bundle of the same weights that samples with DDIM in `steps` steps."""
    settings = dataclasses.replace(loaded.config, solver="ddim", inference_steps=steps)
    method = method_by_name(loaded.name).cls(settings, loaded.method.contract)  # type: ignore[attr-defined]
    method.load_policy_state(loaded.method.policy_state())
    return save_bundle(
        target,
        name=loaded.name,
        method=method,
        transforms=loaded.transforms,
        contract=loaded.contract,
        report=loaded.report,
    )
