"""Gripper paths moved from one object pose to another: the geometry of object-centric demonstrations, without a simulator.

Positions are in m, rotations are scipy's; nothing here knows which robot follows the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from diffbot.errors import DataError

POINT = (
    10  # numbers of a waypoint: position 3, first two columns of the rotation 6, log of the number of steps 1
)


class Pose(NamedTuple):
    """A rigid transform: x -> rotation x + position."""

    position: np.ndarray
    rotation: Rotation

    def __matmul__(self, other: Pose) -> Pose:  # type: ignore[override]
        """First `other` (of one or many poses), then this."""
        return Pose(self.rotation.apply(other.position) + self.position, self.rotation * other.rotation)

    def inverse(self) -> Pose:
        """The transform back."""
        back = self.rotation.inv()
        return Pose(-back.apply(self.position), back)


WORLD = Pose(np.zeros(3), Rotation.identity())


@dataclass(frozen=True)
class Path:
    """One segment of a demonstration in some frame.

    start: where the gripper is when it begins. positions [n, 3] and rotations (n): the set-points of its n steps.
    grip: the gripper's command during all of them.
    """

    start: Pose
    positions: np.ndarray
    rotations: Rotation
    grip: float

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def end(self) -> Pose:
        """The last set-point."""
        return Pose(self.positions[-1], self.rotations[-1])

    def seen_from(self, frame: Pose) -> Path:
        """The same path in the coordinates of `frame`."""
        return self.moved(frame.inverse())

    def moved(self, transform: Pose) -> Path:
        """The path carried along by a rigid transform."""
        points = transform @ Pose(self.positions, self.rotations)
        return Path(transform @ self.start, points.position, points.rotation, self.grip)

    def steps(self) -> np.ndarray:
        """Distance [n] of each set-point from the one before it, the first from the start."""
        before = np.concatenate([self.start.position[None], self.positions[:-1]])
        return np.linalg.norm(self.positions - before, axis=1)


def progress(path: Path, rigid: float) -> np.ndarray:
    """How far along its free motion the path is, [n] from 0 to 1.

    It stays 0 and 1 within `rigid` m of way from either end (at most a third of the way each): there the motion belongs to
    what it begins or ends at, and is not deformed.
    """
    way = np.cumsum(path.steps())
    if way[-1] < 1e-6:
        return np.linspace(0.0, 1.0, len(path)) if len(path) > 1 else np.ones(1)
    margin = min(rigid, way[-1] / 3)
    return np.clip((way - margin) / (way[-1] - 2 * margin), 0.0, 1.0)


def retarget(path: Path, frame: Pose, start: Pose, rigid: float = 0.05) -> Path:
    """Put a path, given in an object's frame, to the object's new pose `frame`, beginning at the gripper's pose `start`.

    Its end keeps its pose relative to the object (Mandlekar et al. 2023), its beginning relative to the gripper;
    the set-points between interpolate the two rigid motions along the way, so that nothing has to be stitched in. Where
    the way becomes longer there are more steps, and the speed is the demonstration's. A path put to where it came from is
    unchanged, and moving frame and start by one rigid motion moves the result by it.
    """
    placed = path.moved(frame)
    carried = placed.moved(start @ placed.start.inverse())
    share = progress(path, rigid)[:, None]
    turn = (carried.rotations * placed.rotations.inv()).as_rotvec()
    positions = (1 - share) * carried.positions + share * placed.positions
    rotations = Rotation.from_rotvec((1 - share) * turn) * placed.rotations
    return paced(Path(start, positions, rotations, path.grip), path.steps())


def paced(path: Path, pace: np.ndarray) -> Path:
    """The path with more steps where its own are longer than `pace` [n], those that were demonstrated."""
    durations = np.maximum(1.0, path.steps() / np.maximum(pace, max(0.5 * float(pace.mean()), 1e-6)))
    clock = np.cumsum(durations)
    count = round(float(clock[-1]))
    if count == len(path):
        return path
    return sampled(path, np.linspace(clock[0], clock[-1], count), clock)


def sampled(path: Path, times: np.ndarray, clock: np.ndarray | None = None) -> Path:
    """The set-points at `times`; clock [n]: the times of the path's own, by default 0, 1, ..."""
    if len(path) == 1:
        return Path(
            path.start, path.positions.repeat(len(times), 0), path.rotations[[0] * len(times)], path.grip
        )
    clock = np.arange(len(path), dtype=float) if clock is None else clock
    times = np.clip(times, clock[0], clock[-1])
    positions = np.stack([np.interp(times, clock, axis) for axis in path.positions.T], axis=1)
    return Path(path.start, positions, Slerp(clock, path.rotations)(times), path.grip)


def perturbed(path: Path, rng: np.random.Generator, spread: float, turn: float, rigid: float = 0.05) -> Path:
    """The path with a smooth random bend of about `spread` m and `turn` rad; both ends stay.

    The bend is a sum of three sines of the progress with Gaussian weights falling as 1/m.
    """
    share = progress(path, rigid)
    waves = np.stack([np.sin(np.pi * m * share) / m for m in (1, 2, 3)], axis=1)
    bend = waves @ rng.standard_normal((3, 6))
    rotations = Rotation.from_rotvec(turn * bend[:, 3:]) * path.rotations
    return Path(path.start, path.positions + spread * bend[:, :3], rotations, path.grip)


def turned_alike(frame: Pose, fold: int, end: Rotation, gripper: Rotation) -> Pose:
    """The frame, among those in which a symmetric object looks the same, that turns the gripper least.

    fold: how often in a full turn about its axis z the object looks the same; 0: always, and only its position counts.
    end: rotation of the gripper in the frame at the end of the path; gripper: its present rotation in the world.
    """
    if fold == 0:
        return Pose(frame.position, Rotation.identity())
    turns = [frame.rotation * Rotation.from_euler("z", 2 * np.pi * k / fold) for k in range(fold)]
    return Pose(frame.position, min(turns, key=lambda r: float(((r * end) * gripper.inv()).magnitude())))


def to_points(path: Path, count: int) -> np.ndarray:
    """The path as `count` waypoints [count, POINT]: its start, then set-points evenly spaced in time."""
    even = sampled(path, np.linspace(0, len(path) - 1, count - 1))
    positions = np.concatenate([path.start.position[None], even.positions])
    rotations = Rotation.concatenate([path.start.rotation, even.rotations])
    columns = rotations.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(count, 6)
    return np.concatenate([positions, columns, np.full((count, 1), np.log(len(path)))], axis=1)


def from_points(points: np.ndarray, grip: float) -> Path:
    """Inverse of `to_points`, up to what lies between the waypoints. Raises DataError for values that are not finite."""
    if not np.isfinite(points).all():
        raise DataError("a drawn trajectory has values that are not finite")
    first, second = points[:, 3:6], points[:, 6:9]
    x = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-9)
    y = second - (x * second).sum(1, keepdims=True) * x
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-9)
    rotations = Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=2))
    steps = max(2, round(float(np.exp(points[:, 9].mean()))))
    path = Path(Pose(points[0, :3], rotations[0]), points[1:, :3], rotations[1:], grip)
    return sampled(path, np.linspace(0, len(path) - 1, steps))
