"""The steps of a teleoperated episode as they happen, and the demonstration that remains when pauses are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim_envs.env import Observation, TaskEnv
from sim_envs.recording import Recording

TAIL = 10  # steps kept after the last motion: fingers take about eight to close


@dataclass(frozen=True)
class Demonstration:
    """A teleoperated episode without its pauses.

    recording: the steps; its `success` is the label. seed: of the episode. ended: "stopped", "terminated" (the task was
    achieved), "truncated" (out of time) or "device lost". labelled_by: "simulator" or "operator".
    trimmed: steps cut at the start and at the end.
    """

    recording: Recording
    seed: int
    ended: str
    labelled_by: str
    trimmed: tuple[int, int]


@dataclass
class EpisodeLog:
    """Everything of the running episode, step by step."""

    seed: int
    observations: dict[str, list[np.ndarray]] = field(default_factory=dict)
    rows: list[tuple[np.ndarray, float, bool, np.ndarray]] = field(default_factory=list)
    active: list[bool] = field(default_factory=list)
    success: list[bool] = field(default_factory=list)
    label: bool | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def step(
        self, env: TaskEnv, observation: Observation, action: np.ndarray, active: bool
    ) -> tuple[Observation, bool, bool]:
        """Take one control step and keep it; returns the next observation, terminated and truncated."""
        for key, value in observation.items():
            self.observations.setdefault(key, []).append(np.array(value))
        state = env.get_state()
        following, reward, terminated, truncated, info = env.step(action)
        self.rows.append((action, float(reward), bool(terminated), state))
        self.active.append(active)
        self.success.append(bool(info["success"]))
        return following, bool(terminated), bool(truncated)

    def finish(self, ended: str, rate: float, mode: str) -> Demonstration | None:
        """The demonstration, or None when the operator never moved."""
        kept = trim(np.array(self.active, bool), np.array(self.success, bool))
        if kept is None:
            return None
        rows: list[Any] = self.rows[kept]
        count = len(rows)
        reached = self.success[kept.stop - 1]
        recording = Recording(
            observations={key: np.stack(values[kept]) for key, values in self.observations.items()},
            actions=np.stack([row[0] for row in rows]),
            rewards=np.array([row[1] for row in rows], np.float32),
            terminated=np.array([row[2] for row in rows], bool),
            times=np.arange(count) / rate,
            states=np.stack([row[3] for row in rows]),
            success=reached if self.label is None else self.label,
            mode=mode,
        )
        by = "simulator" if self.label is None else "operator"
        return Demonstration(recording, self.seed, ended, by, (kept.start, len(self) - kept.stop))


def trim(active: np.ndarray, success: np.ndarray, tail: int = TAIL) -> slice | None:
    """The steps between the first and the last motion, and `tail` more; None without any motion.

    active, success: bool [T]. An episode that ends in success keeps the step that reached it, even when the operator
    had let go before (a cube that settles, a door that swings).
    """
    moving = np.flatnonzero(active)
    if len(moving) == 0:
        return None
    stop = min(len(active), int(moving[-1]) + 1 + tail)
    if success[-1]:
        failures = np.flatnonzero(~success)
        reached = int(failures[-1]) + 1 if len(failures) else 0
        stop = max(stop, reached + 1)
    return slice(int(moving[0]), stop)
