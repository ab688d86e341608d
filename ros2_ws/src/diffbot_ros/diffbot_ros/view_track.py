"""What a live view has seen of a robot: executed path, the chunk that is planned, delays and counters. No browser, no ROS."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from diffbot.control import Chunk
from diffbot.data.contract import Action, Contract
from diffbot.errors import ConfigError, unknown

AXES = ("x", "y", "z")
SELF = (
    "eef",
    "robot",
    "pusher",
    "agent",
    "gripper",
    "hand",
    "tcp",
)  # words for the robot among positions of things
METRES = re.compile(r"^(?:(\d+(?:\.\d+)?) )?m(?![\w/])")
KEEP_S = 4.0  # of commands
KEEP_POINTS = 400
KEEP_CHUNKS = 200
PLANE_Z = 0.03  # m, height at which planar robots are drawn: above the table that they move on


def find_position(contract: Contract, key: str = "") -> str:
    """The observation that says where the robot is: `key`, or the one that looks like it, "" when none does.

    Looks like it: named …eef_pos, else a vector in m with entries x, y (, z), those first whose names speak of the robot.
    Raises ConfigError for a key that is not a vector of 2 or 3 numbers.
    """
    if key:
        if key not in contract.observations:
            raise unknown("position", key, contract.observations)
        if contract.observations[key].shape not in ((2,), (3,)):
            raise ConfigError(f"position '{key}' has shape {contract.observations[key].shape}, needs 2 or 3")
        return key
    states = {name: contract.observations[name] for name in contract.state_keys}
    vectors = {name: spec for name, spec in states.items() if spec.shape in ((2,), (3,))}
    named = [name for name in vectors if name.endswith("eef_pos")]
    points = [
        name
        for name, spec in vectors.items()
        if spec.unit == "m" and spec.names and spec.names == AXES[: len(spec.names)]
    ]
    points.sort(key=lambda name: not any(word in name for word in SELF))
    return (named + points + [""])[0]


def motion_columns(action: Action, dimension: int) -> tuple[tuple[int, ...], float] | None:
    """Columns of a Cartesian action that are x, y (, z) and how many metres one unit of them is.

    None when the action is no position or displacement: another space, or a unit that is not metres ("100 N").
    """
    match = METRES.match(action.unit)
    if action.space != "cartesian" or match is None or action.size < dimension:
        return None
    columns = tuple(range(dimension))
    if action.names:
        found = [
            next((i for i, name in enumerate(action.names) if name == axis or name.endswith(f"_{axis}")), -1)
            for axis in AXES[:dimension]
        ]
        if -1 in found:
            return None
        columns = tuple(found)
    return columns, float(match.group(1) or 1.0)


@dataclass
class Track:
    """Samples of one robot, by their stamps in s.

    position: key of the observation that is drawn as the path, "" for none.
    """

    contract: Contract
    position: str
    path: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=KEEP_POINTS))
    commands: deque[tuple[float, np.ndarray]] = field(default_factory=deque)
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=KEEP_CHUNKS))
    chunk: Chunk | None = None
    at: np.ndarray | None = None  # position when the chunk came
    episode: int | None = None
    _arrivals: dict[float, float] = field(default_factory=dict)

    def begin(self, episode: int) -> None:
        """Another episode: what was seen of the one before is over."""
        if episode != self.episode:
            self.episode, self.chunk, self.at = episode, None, None
            self.path.clear()
            self.commands.clear()

    def observe(self, value: np.ndarray) -> None:
        """Where the robot is now, float [2] or [3] in m; two coordinates are drawn at the height PLANE_Z."""
        point = np.array([0.0, 0.0, PLANE_Z])
        point[: value.size] = value
        self.path.append(point)

    def arrive(self, stamp: float, now: float) -> None:
        """An observation stamped `stamp` came at `now` on this machine's monotonic clock."""
        self._arrivals.setdefault(stamp, now)
        while len(self._arrivals) > KEEP_CHUNKS:
            del self._arrivals[next(iter(self._arrivals))]

    def plan(self, chunk: Chunk, now: float) -> None:
        """A chunk came at `now`: `delays` says how long after its observation."""
        if chunk.start in self._arrivals:
            self.delays.append(now - self._arrivals[chunk.start])
        self.chunk = chunk
        self.at = self.path[-1] if self.path else None

    def command(self, time: float, action: np.ndarray) -> None:
        """A command for the step at `time` was sent."""
        while self.commands and not time - KEEP_S <= self.commands[0][0] < time:
            self.commands.popleft()
        self.commands.append((time, action))

    def ribbon(self) -> np.ndarray | None:
        """The predicted positions [H, 3] in m of the newest chunk; None when its actions are no motion in space.

        Displacements are added up from where the robot was when the chunk came.
        """
        if self.chunk is None or not self.position:
            return None
        dimension = self.contract.observations[self.position].size
        found = motion_columns(self.contract.action, dimension)
        if found is None:
            return None
        columns, metres = found
        steps = self.chunk.actions[self.chunk.valid][:, list(columns)].astype(np.float64) * metres
        delta = self.contract.action.meaning == "delta"
        points = np.tile([0.0, 0.0, 0.0 if delta else PLANE_Z], (len(steps), 1))
        points[:, :dimension] = steps
        if not delta:
            return points if np.isfinite(points).all() else None
        if self.at is None:
            return None
        points = np.concatenate([self.at[None], self.at + np.cumsum(points, axis=0)])
        return points if np.isfinite(points).all() else None

    def signal(self, entry: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times relative to the newest command in s, ascending, and what was commanded and what is planned then (NaN: neither)."""
        times = np.array([time for time, _ in self.commands])
        done = np.array([action[entry] for _, action in self.commands], np.float64)
        now = times[-1] if times.size else 0.0
        ahead, planned = np.empty(0), np.empty(0)
        if self.chunk is not None:
            ahead = self.chunk.start + self.chunk.step * np.arange(self.chunk.horizon)
            keep = (
                (ahead > now) & np.asarray(self.chunk.valid) if times.size else np.asarray(self.chunk.valid)
            )
            ahead, planned = ahead[keep], self.chunk.actions[keep, entry].astype(np.float64)
        gap = np.full
        return (
            np.concatenate([times, ahead]) - now,
            np.concatenate([done, gap(planned.size, np.nan)]),
            np.concatenate([gap(done.size, np.nan), planned]),
        )


def strip(points: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """A horizontal ribbon along points [N >= 2, 3]: vertices float32 [2 N, 3] and faces uint32 [2 N - 2, 3]."""
    direction = np.gradient(points, axis=0)
    side = np.stack([-direction[:, 1], direction[:, 0], np.zeros(len(points))], axis=1)
    length = np.linalg.norm(side, axis=1, keepdims=True)
    # Straight up, or at rest: any horizontal side is as good as another.
    side = np.where(length > 1e-9, side / np.maximum(length, 1e-9), np.array([[1.0, 0.0, 0.0]]))
    vertices = np.stack([points - side * width / 2, points + side * width / 2], axis=1).reshape(-1, 3)
    first = 2 * np.arange(len(points) - 1)[:, None]
    faces = np.concatenate([first + np.array([[0, 1, 2]]), first + np.array([[1, 3, 2]])])
    return vertices.astype(np.float32), faces.astype(np.uint32)
