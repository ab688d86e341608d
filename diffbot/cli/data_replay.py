"""`diffbot data replay`: play recorded actions in the simulator from the recorded start and measure the drift of the state."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diffbot.cli.verb import Verb
from diffbot.errors import ConfigError, DataError


@dataclass(frozen=True)
class ReplayConfig:
    """Which episodes to replay."""

    path: str = "???"  # episode store
    episodes: list[int] = field(default_factory=list)  # episode numbers; the first `count` when empty
    count: int = 5  # how many when none are named
    task: str = ""  # default: the task of the dataset's contract
    tolerance: float = 1e-6  # largest allowed difference of any entry of the state
    video: str = ""  # MP4 of the replays
    camera: str = ""  # default: the task's first camera


@dataclass(frozen=True)
class Replay:
    """One replayed episode. drift: largest absolute difference of the simulator's state, by step [T - 1]."""

    episode: int
    drift: np.ndarray
    success: bool
    recorded_success: bool | None
    frames: list[np.ndarray]


def replay(
    env: Any, arrays: dict[str, np.ndarray], meta: dict[str, Any], index: int, camera: str = ""
) -> Replay:
    """Set the recorded start state, apply every action, compare with the recorded states after each step.

    The environment is reset with the recorded seed first, since a reset may change the model itself.
    """
    env.reset(seed=int(meta["seed"]) if "seed" in meta else None)
    env.unwrapped.set_state(arrays["sim_state"][0])
    drift, success, frames = [], False, []
    for step, action in enumerate(arrays["action"]):
        if camera:
            frames.append(env.unwrapped.render_image(camera, 256, 256))
        info = env.step(action)[4]
        success = success or bool(info["success"])
        if step + 1 < len(arrays["sim_state"]):
            drift.append(np.abs(env.unwrapped.get_state() - arrays["sim_state"][step + 1]).max())
    recorded = bool(meta["success"]) if "success" in meta else None
    return Replay(index, np.asarray(drift), success, recorded, frames)


def run(config: ReplayConfig) -> int:
    """Replay and print a table; status 1 when a state drifts beyond the tolerance or a success is not reproduced."""
    import sim_envs
    from diffbot.data.store import EpisodeStore

    store = EpisodeStore.open(config.path)
    if "sim_state" not in store.keys:
        raise DataError(
            f"{config.path} has no simulator states (sim_state), so there is no start to replay from. "
            "Datasets of diffbot collect have them."
        )
    episodes = config.episodes or list(range(min(config.count, len(store))))
    for index in episodes:
        if not 0 <= index < len(store):
            raise ConfigError(f"no episode {index}: {config.path} has episodes 0..{len(store) - 1}")
    task = config.task or store.contract.task
    env: Any = sim_envs.make(task, **sim_envs.matching_options(task, store.contract.to_dict()))
    camera = (config.camera or env.unwrapped.available_cameras[0]) if config.video else ""
    table = Table("episode", "steps", "largest drift", "success", "recorded")
    bad, frames = 0, []
    try:
        for index in episodes:
            arrays = store.episode(index, ("action", "sim_state"))
            result = replay(env, arrays, store.episode_meta(index), index, camera)
            largest = float(result.drift.max(initial=0.0))
            differs = result.recorded_success is not None and result.success != result.recorded_success
            bad += largest > config.tolerance or differs
            frames += result.frames
            recorded = "" if result.recorded_success is None else str(result.recorded_success)
            table.add_row(
                str(index), str(len(arrays["action"])), f"{largest:.3g}", str(result.success), recorded
            )
    finally:
        env.close()
    Console().print(table)
    if frames:
        from diffbot.evaluation.video import write_video

        write_video(Path(config.video), frames, store.contract.rate)
    Console().print(
        f"{len(episodes) - bad} of {len(episodes)} episodes reproduced within {config.tolerance:g}"
    )
    return 1 if bad else 0


REPLAY = Verb(
    "play an episode's actions in the simulator and report the drift of its state",
    ReplayConfig,
    run,
    (
        "diffbot data replay path=datasets/lift.zarr count=10",
        "diffbot data replay path=datasets/lift.zarr video=replay.mp4",
    ),
)
