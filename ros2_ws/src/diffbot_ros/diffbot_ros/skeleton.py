"""A robot's links as lines in space, from its URDF (what robot_state_publisher publishes on `robot_description`)."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from diffbot.errors import ConfigError

MOVING = ("revolute", "continuous", "prismatic")
KINDS = (*MOVING, "fixed")


@dataclass(frozen=True)
class Joint:
    """One joint of a URDF. origin: 4x4 from the parent link to the joint; mimic: (joint, multiplier, offset) or None."""

    name: str
    kind: str
    parent: str
    child: str
    origin: np.ndarray
    axis: np.ndarray
    mimic: tuple[str, float, float] | None = None

    def motion(self, value: float) -> np.ndarray:
        """4x4 of the joint at `value` (rad or m)."""
        transform = np.eye(4)
        if self.kind == "prismatic":
            transform[:3, 3] = self.axis * value
        elif self.kind != "fixed":
            transform[:3, :3] = Rotation.from_rotvec(self.axis * value).as_matrix()
        return transform


class Skeleton:
    """The kinematic tree of a URDF. Raises ConfigError for text that is none, and for joints that cannot be drawn."""

    def __init__(self, urdf: str) -> None:
        try:
            robot = ElementTree.fromstring(urdf)
        except ElementTree.ParseError as error:
            raise ConfigError(f"the robot description is not XML: {error}") from error
        if robot.tag != "robot":
            raise ConfigError(f"the robot description is a <{robot.tag}>, not a URDF <robot>")
        joints = [_joint(element) for element in robot.findall("joint")]
        if not joints:
            raise ConfigError("the robot description has no joints")
        children = {joint.child for joint in joints}
        known = {joint.parent for joint in joints} - children
        if len(known) != 1:
            raise ConfigError(
                f"the robot description has {len(known)} root links {sorted(known)}, a tree has one"
            )
        (self.base,) = known
        self.joints: list[Joint] = []
        while joints:
            ready = [joint for joint in joints if joint.parent in known]
            if not ready:
                raise ConfigError(f"the joints {[joint.name for joint in joints]} form a loop")
            self.joints += ready
            known |= {joint.child for joint in ready}
            joints = [joint for joint in joints if joint not in ready]

    @property
    def moving(self) -> list[str]:
        """Names of the joints that take a value."""
        return [joint.name for joint in self.joints if joint.kind in MOVING and joint.mimic is None]

    def poses(self, values: Mapping[str, float]) -> dict[str, np.ndarray]:
        """4x4 of every link in the base link, for joint values in rad or m; joints without one are at 0."""
        poses = {self.base: np.eye(4)}
        for joint in self.joints:
            name, factor, offset = joint.mimic or (joint.name, 1.0, 0.0)
            motion = joint.motion(factor * values.get(name, 0.0) + offset)
            poses[joint.child] = poses[joint.parent] @ joint.origin @ motion
        return poses

    def segments(self, values: Mapping[str, float]) -> np.ndarray:
        """Lines [joints, 2, 3] in m from each link's origin to those of its children."""
        poses = self.poses(values)
        return np.array([[poses[j.parent][:3, 3], poses[j.child][:3, 3]] for j in self.joints])


def _joint(element: ElementTree.Element) -> Joint:
    name, kind = element.get("name", ""), element.get("type", "")
    if kind not in KINDS:
        raise ConfigError(f"joint '{name}' is of type '{kind}'; drawn are {', '.join(KINDS)}")
    ends = []
    for tag in ("parent", "child"):
        end = element.find(tag)
        if end is None or not end.get("link"):
            raise ConfigError(f"joint '{name}' names no {tag} link")
        ends.append(str(end.get("link")))
    origin = np.eye(4)
    place = element.find("origin")
    if place is not None:
        origin[:3, 3] = _numbers(name, place.get("xyz", "0 0 0"))
        origin[:3, :3] = Rotation.from_euler("xyz", _numbers(name, place.get("rpy", "0 0 0"))).as_matrix()
    along = element.find("axis")
    axis = np.array([1.0, 0.0, 0.0]) if along is None else _numbers(name, along.get("xyz", "1 0 0"))
    mimic = element.find("mimic")
    copied = (
        None
        if mimic is None
        else (
            mimic.get("joint", ""),
            float(mimic.get("multiplier", "1")),
            float(mimic.get("offset", "0")),
        )
    )
    length = float(np.linalg.norm(axis))
    if kind in MOVING and length < 1e-9:
        raise ConfigError(f"joint '{name}' has an axis of length 0")
    return Joint(name, kind, ends[0], ends[1], origin, axis / max(length, 1e-9), copied)


def _numbers(name: str, text: str) -> np.ndarray:
    try:
        values = np.array([float(part) for part in text.split()])
    except ValueError as error:
        raise ConfigError(f"joint '{name}' has '{text}' where three numbers belong") from error
    if values.shape != (3,):
        raise ConfigError(f"joint '{name}' has '{text}' where three numbers belong")
    return values
