"""Demonstrations multiplied: re-target and play, learn what succeeded, propose from the model, keep what the simulator verifies."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from diffbot.cli.synthesize_attempts import (
    DIFFUSION,
    RETARGETING,
    Proposal,
    Propose,
    Record,
    Workshop,
    first_seed,
    refuse,
    tally,
)
from diffbot.cli.synthesize_config import SynthesizeConfig
from diffbot.cli.synthesize_output import digest, open_output
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, DataError
from diffbot.evaluation.demonstrate import variety
from diffbot.methods.bundle import LoadedPolicy, load_bundle, plain
from diffbot.methods.demonstrations import OBJECT, Demonstration, Scene, read, sources
from diffbot.methods.retargeting import Pose
from diffbot.methods.synthesizers.demo_augmentation import (
    SCENE,
    DemoAugmentation,
    DemoAugmentationConfig,
    fitted,
    retargeted,
    trajectory_dataset,
)
from diffbot.training.config import TrainingConfig

EXPLORED, TRAJECTORIES, TRAINING, RECORD = "explored.zarr", "trajectories.zarr", "training", "acceptance.json"


def demonstrations_of(
    source: EpisodeStore, config: DemoAugmentationConfig, most: int = 0
) -> tuple[Scene, list[Demonstration]]:
    """The first `most` episodes (0: all) as paths. Raises DataError where they do not fit."""
    from sim_envs.robosuite.set_points import set_points

    if source.independent:
        raise DataError(
            f"the rows of '{source.path.name}' are transitions, not episodes; demonstrations are needed"
        )
    if "sim_state" not in source.keys:
        raise DataError(
            f"'{source.path.name}' has no simulator states (sim_state), so it was not recorded in a simulator in which new "
            "demonstrations could be verified. Datasets of diffbot collect have them"
        )
    action = source.contract.action
    if action.space != "cartesian" or action.size != 7:
        raise DataError(
            f"demonstrations are re-targeted by the set-points of one gripper; the actions of '{source.path.name}' are "
            f"{action.space} {action.meaning} with {action.size} numbers. Record a one-armed robosuite task with OSC_POSE"
        )
    scene = Scene.of(source.contract, config.symmetry)

    def points(arrays: Mapping[str, np.ndarray]) -> Pose:
        pose = arrays["robot0_eef_pos"], arrays["robot0_eef_quat"]
        return Pose(*set_points(*pose, arrays["action"], action.meaning))

    number = min(most or len(source), len(source))
    return scene, [read(source, scene, points, index) for index in range(number)]


def run(config: SynthesizeConfig) -> int:
    """`diffbot synthesize` for demonstrations; an interrupted command goes on where it stopped."""
    method: DemoAugmentationConfig = config.method.config
    source = EpisodeStore.open(config.dataset)
    if config.episodes < 1:
        raise ConfigError("say how many demonstrations the dataset shall have: episodes=100")
    scene, demonstrations = demonstrations_of(source, method, config.sources)
    found = sources(demonstrations, scene)
    folder = Path(config.run) if config.run else Path("runs") / f"{source.path.stem}_{config.method.name}"
    folder.mkdir(parents=True, exist_ok=True)
    env = simulator(source)
    try:
        workshop = Workshop(env, found, demonstrations, source, fitted(method, found), config.seed)
        return synthesize(workshop, config, folder)
    finally:
        env.close()


def simulator(source: EpisodeStore) -> Any:
    """The environment that a dataset was recorded in. Raises ContractError where it observes or acts otherwise."""
    import sim_envs

    contract = source.contract
    options = {**source.provenance.get("env", {}), "action_mode": contract.action.meaning}
    if contract.image_keys:
        options["cameras"] = tuple(key.removesuffix("_image") for key in contract.image_keys)
        options["image_size"] = contract.observations[contract.image_keys[0]].shape[:2]
    env: Any = sim_envs.make(contract.task, **options)
    contract.require_match(Contract.from_dict(env.unwrapped.contract()), "dataset", "environment")
    return env


def synthesize(workshop: Workshop, config: SynthesizeConfig, folder: Path) -> int:
    """Explore, learn, try the model, and only then make or continue the dataset `config.out`."""
    console, source, record = Console(), workshop.source, Record(folder / RECORD)
    if workshop.found.left_out:
        console.print(f"left out, as their gripper commands differ: episodes {list(workshop.found.left_out)}")
    provenance: dict[str, Any] = {
        "settings": plain(workshop.config),
        "synthetic": True,
        "verb": "synthesize",
        "method": config.method.name,
        "source": source.path.name,
        "source_episodes": list(workshop.found.episodes),
        "source_provenance": source.provenance,
        "frames": [name or "world" for name in workshop.found.frames],
        "seed": config.seed,
    }
    explored: EpisodeStore | None = None
    bundle = Path(config.bundle)
    if not config.bundle:
        explored = explore(workshop, folder, provenance, config, record)
        bundle = learn(workshop, folder, explored, config.training)
    propose = proposals(workshop, load_bundle(bundle))
    trial = record.trial(DIFFUSION, workshop.attempts(propose, 1, 0), workshop.config.trial)
    problems = record.problems()
    refuse(problems, config.force)
    checks = {"passed": not problems, "problems": problems, "acceptance": record.values}
    store = open_output(
        Path(config.out),
        source.contract,
        provenance | {"bundle": digest(bundle), "checks": checks},
        independent=False,
    )
    for index in range(len(store), min(len(explored or ()), config.episodes)):
        assert explored is not None
        store.append(explored.episode(index), explored.episode_meta(index))
    workshop.fill(store, propose, 1, config.episodes, trial)
    console.print(summary(workshop, store, config.out, problems), highlight=False)
    return 0


def explore(
    workshop: Workshop, folder: Path, provenance: dict[str, Any], config: SynthesizeConfig, record: Record
) -> EpisodeStore:
    """Episodes that re-targeting alone brings to success, in the run's folder."""

    def propose(_: dict[str, np.ndarray], rng: np.random.Generator) -> Proposal:
        paths, origin = retargeted(workshop.found, workshop.config, rng)
        return paths, "re-targeted " + ",".join(map(str, origin))

    trial = record.trial(RETARGETING, workshop.attempts(propose, 0, 0), workshop.config.trial)
    refuse(record.problems(), config.force)
    store = open_output(folder / EXPLORED, workshop.source.contract, provenance, independent=False)
    workshop.fill(store, propose, 0, min(workshop.config.explore, config.episodes), trial)
    return store


def learn(workshop: Workshop, folder: Path, explored: EpisodeStore, training: TrainingConfig) -> Path:
    """Train the diffusion model on the sources and what was explored; returns its bundle."""
    from diffbot.training import run as runs

    if (folder / TRAINING / "run.yaml").exists():
        result = runs.resume(folder / TRAINING)
    else:
        found, path = workshop.found, folder / TRAJECTORIES
        everything = [*workshop.demonstrations, *demonstrations_of(explored, workshop.config)[1]]
        alike = [d for d in everything if d.pattern == found.pattern]
        shutil.rmtree(path, ignore_errors=True)  # of a command that was killed before the training began
        trajectory_dataset(
            path,
            sources(alike, found.scene, found.frames),
            [found.scene.vector(d.first) for d in alike],
            workshop.config.points,
            workshop.source.contract,
        )
        if training.steps is None and training.minutes is None:
            training = replace(training, steps=workshop.config.learning_steps)
        task = workshop.source.contract.task
        spec = runs.RunSpec("demo_augmentation", workshop.config, path, training, workshop.seed, task)
        result = runs.start(spec, folder / TRAINING)
    if result.outcome.stopped:
        raise DataError(
            f"training in '{folder}' was stopped by {result.outcome.stopped}; the same command goes on"
        )
    return result.bundle


def proposals(workshop: Workshop, model: LoadedPolicy) -> Propose:
    """Draw from a diffusion model. Raises ConfigError for one of other scenes or segments."""
    found, method = workshop.found, model.method
    if not isinstance(method, DemoAugmentation):
        raise ConfigError(
            f"bundle '{model.path}' is a {model.name}; trajectories come from demo_augmentation"
        )
    size = len(found.scene.vector(workshop.demonstrations[0].first))
    if model.contract.observations[SCENE].shape != (size,) or method.segments != len(found.frames):
        raise ConfigError(
            f"bundle '{model.path}' draws {method.segments} segments for scenes of "
            f"{model.contract.observations[SCENE].shape} numbers; '{workshop.source.path.name}' has "
            f"{len(found.frames)} and ({size},). Train one on it: leave bundle= out"
        )

    def propose(observation: dict[str, np.ndarray], rng: np.random.Generator) -> Proposal:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        scene = found.scene.vector(observation)
        return method.propose(scene, found.pattern, model.transforms, generator), "diffused"

    return propose


def summary(workshop: Workshop, store: EpisodeStore, out: str, problems: list[str]) -> str:
    """The dataset in a few lines: acceptance by phase, distance to the sources, starts covered."""
    lines = [f"{out}: {len(store)} verified demonstrations from {len(workshop.found.episodes)}"]
    for name, phase in ((RETARGETING, 0), (DIFFUSION, 1)):
        accepted, attempts = tally(store, workshop.seed, phase)
        if attempts:
            lines.append(f"{name}: {accepted} of {attempts} attempts ({accepted / attempts:.0%})")
    if len(workshop.found.episodes) >= 2:
        keys = ("robot0_eef_pos", "object")
        scene = workshop.found.scene
        columns = next(iter(scene.columns.values()))[0]
        found = variety(
            [store.episode(i, keys) for i in range(len(store))],
            [workshop.source.episode(i, keys) for i in workshop.found.episodes],
            starts(workshop, columns),
            columns,
        )
        lines.append(
            f"gripper paths {1e3 * found.nearest:.0f} mm from the nearest source (sources {1e3 * found.between:.0f} mm from "
            f"each other); {found.covered:.0%} of the task's starts have a demonstration within 10 mm (sources "
            f"{found.source_covered:.0%})"
        )
    return "\n".join(lines + [f"marked as failing: {'; '.join(problems)}"] * bool(problems))


def starts(workshop: Workshop, columns: Sequence[int], number: int = 25) -> np.ndarray:
    """Object positions [number, 3] at the start of episodes that nothing was attempted on."""
    first = first_seed(workshop.seed, 2) - number
    seen = [workshop.env.reset(seed=first + i)[0][OBJECT] for i in range(number)]
    return np.stack(seen)[:, list(columns)].astype(np.float64)
