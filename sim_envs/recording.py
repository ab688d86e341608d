"""One demonstration: an expert plays an episode and every step of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim_envs.env import TaskEnv
from sim_envs.experts.base import Expert


@dataclass(frozen=True)
class Recording:
    """An episode of T steps.

    observations, actions: [T, ...] each, observation t before action t. rewards float32 [T], terminated bool [T],
    times float64 [T] in s from the start, states float64 [T, n]: the simulation before action t.
    member: the task that a task of several (MT10) has drawn, else "".
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    times: np.ndarray
    states: np.ndarray
    success: bool
    mode: str
    member: str = ""

    def __len__(self) -> int:
        return len(self.actions)


def record_episode(env: TaskEnv, expert: Expert, seed: int) -> Recording:
    """Play the episode of `seed` to its end. Success is that of the last step."""
    observation, info = env.reset(seed=seed)
    member = str(info.get("member", ""))
    expert.reset(env)
    observations: dict[str, list[np.ndarray]] = {key: [] for key in observation}
    actions, rewards, ends, states = [], [], [], []
    finished = False
    while not finished:
        for key, value in observation.items():
            observations[key].append(np.array(value))
        states.append(env.get_state())
        action = np.asarray(expert.act(env, observation), dtype=env.action_space.dtype)
        observation, reward, terminated, truncated, info = env.step(action)
        actions.append(action)
        rewards.append(reward)
        ends.append(terminated)
        finished = terminated or truncated
    return Recording(
        observations={key: np.stack(values) for key, values in observations.items()},
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        terminated=np.array(ends, bool),
        times=np.arange(len(actions)) / env.task.rate,
        states=np.stack(states),
        success=bool(info["success"]),
        mode=expert.mode,
        member=member,
    )


def render_states(
    env: TaskEnv, states: np.ndarray, cameras: Sequence[str], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Images `{camera}_image`, uint8 [T, height, width, 3], of recorded states [T, n].

    Equal to what the environment would have observed at the time; failed episodes then cost no rendering.
    """
    images: dict[str, list[np.ndarray]] = {f"{camera}_image": [] for camera in cameras}
    for state in states:
        env.set_state(state)
        for camera in cameras:
            images[f"{camera}_image"].append(env.render_image(camera, *size))
    return {key: np.stack(values) for key, values in images.items()}


def versions() -> dict[str, str]:
    """Versions of the installed simulators, for a dataset's provenance."""
    from importlib import metadata

    found: dict[str, Any] = {}
    for package in (
        "mujoco",
        "robosuite",
        "dm-control",
        "gymnasium",
        "gymnasium-robotics",
        "metaworld",
        "numpy",
    ):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
