"""Demonstrations of one arm as paths between gripper commands, each in the frame that its end belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError
from diffbot.methods.retargeting import WORLD, Path, Pose, turned_alike

GRIPPER = ("robot0_eef_pos", "robot0_eef_quat")
OBJECT = "object"
MINIMUM = 2  # demonstrations

SetPoints = Callable[[Mapping[str, np.ndarray]], Pose]
"""The set-points [T] that an episode's actions send the gripper to."""


@dataclass(frozen=True)
class Scene:
    """Where the poses of the task's objects stand in the entry "object" of an observation, by the labels of the contract."""

    columns: Mapping[
        str, tuple[tuple[int, ...], tuple[int, ...]]
    ]  # object: position x y z, quaternion x y z w
    symmetry: Mapping[str, int]  # see `retargeting.turned_alike`; 1 where none is given

    @classmethod
    def of(cls, contract: Contract, symmetry: Mapping[str, int]) -> Scene:
        """Raises DataError where the contract lacks the gripper's pose or labels no object pose."""
        missing = [key for key in (*GRIPPER, OBJECT) if key not in contract.observations]
        if missing:
            raise DataError(
                f"demonstrations are re-targeted from the poses of gripper and objects; the dataset has no '{missing[0]}' "
                f"(it has: {', '.join(contract.observations)}). Record one-armed robosuite tasks with their state keys"
            )
        names = list(contract.observations[OBJECT].names)
        found = {}
        for name in names:
            label = name.removesuffix("_pos_x")
            axes = [f"{label}_pos_{axis}" for axis in "xyz"], [f"{label}_quat_{axis}" for axis in "xyzw"]
            if name.endswith("_pos_x") and "_in_" not in label and set(axes[0] + axes[1]) <= set(names):
                found[label] = (tuple(map(names.index, axes[0])), tuple(map(names.index, axes[1])))
        if not found:
            raise DataError(
                f"no object of task '{contract.task}' has its pose among the labels of 'object' "
                f"(<name>_pos_x ... <name>_quat_w): {', '.join(names) or '(none)'}"
            )
        return cls(found, dict(symmetry))

    def gripper(self, observation: Mapping[str, np.ndarray]) -> Pose:
        """Pose of the gripper in the world, from one observation or many."""
        position, quaternion = (np.asarray(observation[key], np.float64) for key in GRIPPER)
        return Pose(position, Rotation.from_quat(quaternion))

    def frame(self, name: str, observation: Mapping[str, np.ndarray], end: Rotation, gripper: Pose) -> Pose:
        """Pose of an object, or of the world (""), turned as its symmetry allows so that the gripper turns least."""
        if not name:
            return WORLD
        numbers = np.asarray(observation[OBJECT], np.float64)
        position, quaternion = self.columns[name]
        pose = Pose(numbers[list(position)], Rotation.from_quat(numbers[list(quaternion)]))
        return turned_alike(pose, self.symmetry.get(name, 1), end, gripper.rotation)

    def vector(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """What a trajectory depends on, float32: the gripper's position; of each object position, cos and sin of its yaw.

        The yaw counts as often as the object looks the same; for one that always does it is left out.
        """
        numbers = np.asarray(observation[OBJECT], np.float64)
        parts = [self.gripper(observation).position]
        for name, (position, quaternion) in self.columns.items():
            fold = self.symmetry.get(name, 1)
            x_axis = Rotation.from_quat(numbers[list(quaternion)]).apply([1.0, 0.0, 0.0])
            yaw = fold * np.arctan2(x_axis[1], x_axis[0])
            parts += [numbers[list(position)], np.array([np.cos(yaw), np.sin(yaw)][: 2 * (fold > 0)])]
        return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True)
class Demonstration:
    """One episode. first: its first observation. paths: one for each run of equal gripper commands, in the world."""

    index: int
    first: dict[str, np.ndarray]
    paths: tuple[Path, ...]
    observations: tuple[dict[str, np.ndarray], ...]  # at the beginning of each path

    @property
    def pattern(self) -> tuple[float, ...]:
        """The gripper commands in order."""
        return tuple(path.grip for path in self.paths)


def read(store: EpisodeStore, scene: Scene, set_points: SetPoints, index: int) -> Demonstration:
    """Cut one episode where the gripper's command changes its sign. Raises DataError for values that are not finite."""
    keys = (*GRIPPER, OBJECT, "action")
    arrays = store.episode(index, keys)
    for key in keys:
        bad = np.flatnonzero(~np.isfinite(arrays[key]).reshape(len(arrays[key]), -1).all(1))
        if len(bad):
            raise DataError(
                f"episode {index} of '{store.path.name}' has values in '{key}' that are not finite, first at step {bad[0]}. "
                f"Find them all: diffbot data check path={store.path.name}"
            )
    points, gripper = set_points(arrays), scene.gripper(arrays)
    grip = np.where(arrays["action"][:, -1] > 0, 1.0, -1.0)
    starts = [0, *(np.flatnonzero(np.diff(grip)) + 1).tolist()]
    paths, observations = [], []
    for start, stop in zip(starts, [*starts[1:], len(grip)], strict=True):
        begin = Pose(gripper.position[start], gripper.rotation[start])
        paths.append(
            Path(begin, points.position[start:stop], points.rotation[start:stop], float(grip[start]))
        )
        observations.append({key: arrays[key][start] for key in (*GRIPPER, OBJECT)})
    return Demonstration(index, observations[0], tuple(paths), tuple(observations))


@dataclass(frozen=True)
class Sources:
    """Demonstrations with one pattern of gripper commands, as paths [segment][demonstration] in the segments' frames."""

    scene: Scene
    frames: tuple[str, ...]  # of each segment: an object, or "" for the world
    paths: tuple[tuple[Path, ...], ...]
    episodes: tuple[int, ...]  # which episodes of the store they are
    left_out: tuple[int, ...]  # episodes with another pattern (a grasp that slipped and was tried again)

    @property
    def pattern(self) -> tuple[float, ...]:
        """The gripper command of each segment."""
        return tuple(group[0].grip for group in self.paths)


def sources(demonstrations: Sequence[Demonstration], scene: Scene, frames: Sequence[str] = ()) -> Sources:
    """Choose the frame of each segment and put all paths into it.

    A segment belongs to the object, or to the world, relative to which its ends scatter least over the demonstrations;
    `frames` gives them instead. Raises DataError for fewer than MINIMUM demonstrations of the commonest pattern.
    """
    patterns = Counter(d.pattern for d in demonstrations)
    pattern = patterns.most_common(1)[0][0] if patterns else ()
    used = [d for d in demonstrations if d.pattern == pattern]
    if len(used) < MINIMUM:
        raise DataError(
            f"{len(used)} of {len(demonstrations)} demonstrations have the same sequence of gripper commands; at least "
            f"{MINIMUM} are needed. Record more: diffbot collect"
        )
    chosen, paths = [], []
    for segment in range(len(pattern)):
        names = (frames[segment],) if frames else ("", *scene.columns)
        seen = {name: _seen_from(used, segment, name, scene) for name in names}
        chosen.append(min(names, key=lambda name: _scatter(seen[name])))
        paths.append(seen[chosen[-1]])
    left = tuple(d.index for d in demonstrations if d.pattern != pattern)
    return Sources(scene, tuple(chosen), tuple(paths), tuple(d.index for d in used), left)


def _seen_from(used: Sequence[Demonstration], segment: int, name: str, scene: Scene) -> tuple[Path, ...]:
    """The segment of all demonstrations in one frame, symmetric objects turned to be held as the first one is held."""
    found: list[Path] = []
    for demonstration in used:
        path, observation = demonstration.paths[segment], demonstration.observations[segment]
        like = found[0].end.rotation if found else Rotation.identity()
        held = path.end if found else path.start
        found.append(path.seen_from(scene.frame(name, observation, like, held)))
    return tuple(found)


def _scatter(paths: Sequence[Path]) -> float:
    """Root of the summed variances of the ends' positions, m."""
    return float(np.sqrt(np.var([path.end.position for path in paths], axis=0).sum()))
