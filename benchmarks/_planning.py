"""Studies that the planners share: mazes with one goal an episode, driven by controllers of mixed quality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._learned import learned
from benchmarks._rows import Arm

MIX = {
    "good": 0.25,
    "okay": 0.25,
    "poor": 0.5,
}  # half of all episodes go to a wrong place first, most are slow
DATASET = "waypoints.zarr"
EPISODES = {"pointmaze/umaze": 120, "pointmaze/medium": 160, "pointmaze/large": 200}

# A plan of 32 steps of 8 control steps each covers 2.56 s at 100 Hz; the first step of it is driven, then planned again.
# Forces are open loop within a plan: driving four steps of it instead of one costs 0.15 of success in the medium maze.
MAZE = {
    "stride": 8,
    "horizon": 256,
    "action_horizon": 8,
    "constant": ["goal"],
    "pad_action": "zero",
    "discount": 0.995,
    # In a minute of one core the MLP learns what the U-Net learns in three (denoising loss 0.039 against 0.044).
    "network": "mlp",
    "network_options": {"width": 384},
    "solver": "ddim",
    "inference_steps": 10,
    "optimizer": {"learning_rate": 1e-3},
}
# The return model is what learns slowest (1 - R^2 = 0.7 after 1200 steps, 0.37 after 7000); as an MLP it halves the time of
# a step. Of 16 plans the most promising is driven, which adds 0.3 of success in the medium maze: half of the data go astray.
DIFFUSER = {
    **MAZE,
    "action_weight": 1.0,
    "guide_network": "mlp",
    "guide_dims": [256, 256],
    "guide_steps": 1,
    "scale": 0.5,
    "samples": 16,
}
DECISION_DIFFUSER = {
    **MAZE,
    "prediction": "sample",
    "guidance": 1.5,
    "target_return": 0.7,  # from most places the best return of the data cannot be had: 0.70 of success against 0.60 at 1
    "inverse_width": 128,
    "condition_dim": 32,
}
BC = {"width": 256, "depth": 3}

SMALL = {"network": "unet", "network_options": {"down_dims": [8, 16]}, "horizon": 64, "inference_steps": 3}
STEPS = 7000  # about 150 s of one core for a planner, 60 s for behaviour cloning
ROLLOUTS = 20  # episodes a seed
PUBLISHED = {
    **{name: value for name, value in MAZE.items() if name in ("constant", "pad_action", "discount")},
    "network": "unet",
    "stride": 2,
    "horizon": 384,
    "action_horizon": 16,
    "network_options": {"down_dims": [32, 64, 128]},
    "schedule_options": {"steps": 64},
    "inference_steps": 64,
    "optimizer": {"learning_rate": 2e-4},
    "ema": {"maximum": 0.995},
}
PUBLISHED_GUIDE = {"guide_network": "unet", "guide_dims": [32, 64, 128], "samples": 64}


def collect_mixed(shared: Path, task: str, episodes: int) -> None:
    """Record `episodes` of `MIX` below `shared`, going on where an earlier call stopped."""
    from diffbot.cli.collect import run
    from diffbot.cli.collect_config import CollectConfig

    settings = CollectConfig(
        task=task,
        episodes=episodes,
        mix=dict(MIX),
        keep_failures=True,
        workers="1",
        out=str(shared / DATASET),
    )
    status = run(settings)
    assert status == 0, f"recording {task} ended with status {status}"


def collect_recipe(shared: Path, name: str) -> None:
    """Record the recipe `name` at its published size below `shared`."""
    from diffbot.cli.collect import run
    from diffbot.cli.collect_config import CollectConfig

    status = run(CollectConfig(recipe=name, fraction=1.0, out=str(shared / DATASET)))
    assert status == 0, f"recording {name} ended with status {status}"


def arm(
    name: str,
    method: str,
    options: Mapping[str, Any],
    task: str,
    training: Mapping[str, Any],
    episodes: int,
    **more: Any,
) -> Arm:
    """`learned` on the study's dataset."""
    return learned(
        name, method, options, task=task, dataset=DATASET, training=training, episodes=episodes, **more
    )
