"""One episode of a policy in a simulator, in simulated time, with the control code that also runs on the robot."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffbot.control import ControlLoop


@dataclass
class Episode:
    """What one rollout gave.

    success: whether info["success"] was True after any step. reward: undiscounted sum.
    coverage: largest info["coverage"] in [0, 1] after any step (Push-T's published score), None where there is none.
    inference_ms: wall-clock time of each inference. seam_jumps, chunk_steps: largest change of a command entry between two
    ticks, where a new chunk took over and inside chunks. held: ticks without a chunk to follow.
    counters: reasons of the limits. actions: float32 [steps, A], kept when asked. frames: uint8 images, kept when asked.
    """

    seed: int
    success: bool = False
    steps: int = 0
    reward: float = 0.0
    coverage: float | None = None
    inference_ms: list[float] = field(default_factory=list)
    seam_jumps: list[float] = field(default_factory=list)
    chunk_steps: list[float] = field(default_factory=list)
    held: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    actions: np.ndarray | None = None
    seams: list[int] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)


def rollout(
    env: Any, loop: ControlLoop, seed: int, *, horizon: int, camera: str = "", size: int = 256
) -> Episode:
    """Run one episode of at most `horizon` control steps on the environment seed `seed`.

    env: a Gymnasium environment with dictionary observations and info["success"]. camera: film the episode with it.
    """
    episode = Episode(seed)
    observation, info = env.reset(seed=seed)
    loop.reset(seed, start=0.0)
    before = loop.controller.counters.copy()
    film = (lambda: episode.frames.append(env.unwrapped.render_image(camera, size, size))) if camera else None
    if film:
        film()
    actions: list[np.ndarray] = []
    chunk = -1
    for step in range(horizon):
        inferences = len(loop.chunks)
        started = time.perf_counter()
        command = loop.tick(observation, step * loop.runner.period)
        if len(loop.chunks) > inferences:
            episode.inference_ms.append(1e3 * (time.perf_counter() - started))
        if actions:
            jump = float(np.abs(command.action - actions[-1]).max())
            (episode.chunk_steps if command.chunk_id == chunk else episode.seam_jumps).append(jump)
        if command.chunk_id != chunk:
            episode.seams.append(step)
        episode.held += command.chunk_id < 0
        chunk = command.chunk_id
        actions.append(command.action)
        observation, reward, terminated, truncated, info = env.step(command.action)
        if film:
            film()
        episode.reward += float(reward)
        episode.steps = step + 1
        if "coverage" in info:
            episode.coverage = max(episode.coverage or 0.0, float(info["coverage"]))
        if info["success"]:
            episode.success = True
        if episode.success or terminated or truncated:
            break
    episode.counters = dict(loop.controller.counters - before)
    episode.actions = np.stack(actions)
    return episode
