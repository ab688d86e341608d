"""Synthesized demonstrations in the simulator: played until success, verified by replay, and measured as a set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

SetPoint = tuple[np.ndarray, np.ndarray, float]
"""Position [3] (m), rotation vector [3] (rad), gripper command."""

Towards = Callable[[Any, np.ndarray, np.ndarray, float], np.ndarray]
"""(environment, set-point) -> action."""


class Demonstrates(Protocol):
    """What says where the gripper goes next."""

    def set_point(self, observation: dict[str, np.ndarray]) -> SetPoint | None:
        """The next set-point, None when there is nothing left to do."""
        ...


@dataclass(frozen=True)
class Attempt:
    """One episode that was tried. arrays [T, ...]: as an episode store takes them."""

    seed: int
    success: bool
    arrays: dict[str, np.ndarray]


def attempt(
    env: Any,
    demonstrator: Callable[[dict[str, np.ndarray]], Demonstrates],
    towards: Towards,
    seed: int,
    wait: int = 20,
) -> Attempt:
    """Reset to `seed`, follow the set-points until success; the last one is held for at most `wait` steps.

    demonstrator: made from the first observation. An attempt also ends at the task's horizon.
    """
    observation, _ = env.reset(seed=seed)
    guide = demonstrator(observation)
    rows: dict[str, list[Any]] = {}
    point: SetPoint | None = None
    waited, finished, success = 0, False, False
    while not finished:
        following = guide.set_point(observation)
        waited += following is None
        point = following or point
        if point is None or waited > wait:
            break
        action = towards(env, *point)
        step = {**observation, "action": action, "sim_state": env.unwrapped.get_state()}
        observation, reward, terminated, truncated, info = env.step(action)
        step |= {"reward": np.float32(reward), "terminated": bool(terminated)}
        for key, value in step.items():
            rows.setdefault(key, []).append(np.array(value))
        success = bool(info["success"])
        finished = success or terminated or truncated
    arrays = {key: np.stack(values) for key, values in rows.items()}
    if arrays:
        arrays["time"] = np.arange(len(arrays["action"])) / env.unwrapped.task.rate
    return Attempt(seed, success, arrays)


def replays(env: Any, found: Attempt) -> bool:
    """Whether the stored actions alone, from the stored first state, reach success at the episode's last step."""
    env.reset(seed=found.seed)
    env.unwrapped.set_state(found.arrays["sim_state"][0])
    success = False
    for action in found.arrays["action"]:
        success = bool(env.step(action)[4]["success"])
    return success


Episode = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Variety:
    """How new synthesized demonstrations are, and how much of the task they cover.

    nearest: median distance (m) of a synthesized gripper path to the nearest source's. between: the same from each source
    to the nearest other. gap, source_gap: mean distance (m) of a start of the task to the nearest synthesized and to the
    nearest source demonstration, in object position; covered, source_covered: part of the starts with one within 1 cm.
    """

    nearest: float
    between: float
    gap: float
    source_gap: float
    covered: float
    source_covered: float


def variety(
    synthesized: Sequence[Episode], sources: Sequence[Episode], starts: np.ndarray, columns: Sequence[int]
) -> Variety:
    """Compare gripper paths ("robot0_eef_pos") and object positions ("object", `columns`) of two sets of episodes.

    starts: object positions [N, len(columns)] of other episodes of the task. Paths are compared at 50 points evenly
    spaced in time.
    """
    new, old = ([_resampled(e["robot0_eef_pos"]) for e in part] for part in (synthesized, sources))
    gaps = [
        np.array([np.linalg.norm(starts - e["object"][0, list(columns)], axis=1) for e in part]).min(0)
        for part in (synthesized, sources)
    ]
    others = [min(_distance(a, b) for j, b in enumerate(old) if j != i) for i, a in enumerate(old)]
    return Variety(
        nearest=float(np.median([min(_distance(a, b) for b in old) for a in new])),
        between=float(np.median(others)),
        gap=float(gaps[0].mean()),
        source_gap=float(gaps[1].mean()),
        covered=float((gaps[0] < 0.01).mean()),
        source_covered=float((gaps[1] < 0.01).mean()),
    )


def _resampled(path: np.ndarray, count: int = 50) -> np.ndarray:
    times = np.linspace(0, len(path) - 1, count)
    return np.stack([np.interp(times, np.arange(len(path)), axis) for axis in path.T], axis=1)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of two paths, point by point."""
    return float(np.linalg.norm(a - b, axis=1).mean())
