"""The policies of the control benchmark: a given bundle, or one that is trained here and found again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffbot.cli.collect import run as collect
from diffbot.cli.collect_config import CollectConfig
from diffbot.cli.evaluate import find_bundle
from diffbot.methods.registry import build_config
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig


@dataclass(frozen=True)
class Task:
    """What a policy is trained on when none is given: scripted demonstrations and gradient steps of diffusion_policy."""

    id: str
    demonstrations: int
    steps: int
    options: dict[str, Any] = field(default_factory=dict)


TASKS = {
    "lift": Task("robosuite/lift", demonstrations=100, steps=12000),
    "pusht": Task("pusht/state", demonstrations=500, steps=17000, options={"prediction": "sample"}),
}


def bundle_of(task: str, given: str, folder: Path) -> Path:
    """The bundle folder; trains what is not there, and continues a run that was stopped."""
    if given:
        return find_bundle(given)
    recipe, run = TASKS[task], folder / task / "run"
    dataset = folder / task / "demonstrations.zarr"
    if (run / runs.RUN_FILE).exists():
        result = runs.resume(run, steps=recipe.steps)
    else:
        collect(CollectConfig(task=recipe.id, episodes=recipe.demonstrations, out=str(dataset)))
        training = TrainingConfig(steps=recipe.steps, validation=0.0, tensorboard=False)
        settings = build_config("diffusion_policy", recipe.options)
        spec = runs.RunSpec("diffusion_policy", settings, dataset, training, task=recipe.id)
        result = runs.start(spec, run)
    return result.finished().bundle
