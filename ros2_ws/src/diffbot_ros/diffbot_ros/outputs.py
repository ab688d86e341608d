"""How commands reach a robot, besides diffbot_msgs/Command: one class for each interface that real arms offer.

| kind             | message                          | action it carries                                           |
|------------------|----------------------------------|-------------------------------------------------------------|
| joint_trajectory | trajectory_msgs/JointTrajectory  | absolute joint positions, one point one period ahead        |
| forward          | std_msgs/Float64MultiArray       | absolute joint positions                                    |
| joint_target     | sensor_msgs/JointState           | absolute joint positions (impedance controllers)            |
| pose             | geometry_msgs/PoseStamped        | absolute position and quaternion xyzw (7 entries)           |
| twist            | geometry_msgs/TwistStamped       | delta pose (6 entries), sent as the velocity that makes it  |

An entry whose name contains "gripper" or "finger" goes to the profile's gripper topic instead (Float64MultiArray),
mapped from [-1 open, 1 closed] to its positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from diffbot.control import ActionSpace, Limits
from diffbot.control.robots import Robot, robot
from diffbot.data.contract import Action
from diffbot.errors import ContractError, unknown
from diffbot_ros import qos
from diffbot_ros.convert import to_duration, to_time

Writer = Callable[[np.ndarray, float], Any]


class Output(Protocol):
    """Takes each command of the executor."""

    def send(self, action: np.ndarray, now: float) -> None:
        """action: float32 [A]; now: s."""

    def close(self, node: Node) -> None:
        """Give up the publishers."""


class NoOutput:
    """The `command` topic is all."""

    def send(self, action: np.ndarray, now: float) -> None:
        """Nothing else to send."""

    def close(self, node: Node) -> None:
        """Nothing to give up."""


class RobotOutput:
    """Publishes on the topics of a robot profile."""

    def __init__(self, node: Node, profile: Robot, kind: str, action: Action, period: float) -> None:
        if kind not in WRITERS or kind not in profile.outputs:
            raise unknown(f"output of {profile.name}", kind, set(profile.outputs) & set(WRITERS))
        self._gripper = ActionSpace.from_action(action).gripper
        message, build, needs = WRITERS[kind]
        motion = int((~self._gripper).sum())
        wanted = needs["size"] or len(profile.joints)
        if (action.meaning, action.space) != (needs["meaning"], needs["space"]) or motion != wanted:
            raise ContractError(
                f"output '{kind}' of {profile.name} takes {needs['meaning']} {needs['space']} actions with "
                f"{wanted} entries besides the gripper; the contract has {action.meaning} {action.space} with {motion}"
            )
        self._write: Writer = build(profile, period)
        self._publisher = node.create_publisher(message, profile.outputs[kind]["topic"], qos.COMMAND)
        self._hand: Mapping[str, Any] = profile.outputs.get("gripper", {})
        self._hand_publisher = None
        if self._gripper.any():
            if not self._hand:
                raise ContractError(
                    f"the action has a gripper, the profile {profile.name} has no gripper topic"
                )
            self._hand_publisher = node.create_publisher(Float64MultiArray, self._hand["topic"], qos.COMMAND)

    def send(self, action: np.ndarray, now: float) -> None:
        """Publish one command."""
        self._publisher.publish(self._write(action[~self._gripper].astype(np.float64), now))
        if self._hand_publisher is not None:
            closed = (np.clip(action[self._gripper].astype(np.float64), -1.0, 1.0) + 1.0) / 2.0
            width = self._hand["open"] + closed * (self._hand["closed"] - self._hand["open"])
            self._hand_publisher.publish(Float64MultiArray(data=width.tolist()))

    def close(self, node: Node) -> None:
        """Give up the publishers."""
        node.destroy_publisher(self._publisher)
        if self._hand_publisher is not None:
            node.destroy_publisher(self._hand_publisher)


def _trajectory(profile: Robot, period: float) -> Writer:
    def write(values: np.ndarray, now: float) -> JointTrajectory:
        # Stamp 0 means "from now on": the arm's clock need not be ours. Velocity is left out, so that the controller
        # interpolates from its desired state (interpolate_from_desired_state) without stopping at each point.
        point = JointTrajectoryPoint(positions=values.tolist(), time_from_start=to_duration(period))
        return JointTrajectory(joint_names=list(profile.joints), points=[point])

    return write


def _forward(profile: Robot, period: float) -> Writer:
    return lambda values, now: Float64MultiArray(data=values.tolist())


def _joint_target(profile: Robot, period: float) -> Writer:
    def write(values: np.ndarray, now: float) -> JointState:
        message = JointState(name=list(profile.joints), position=values.tolist())
        message.header.stamp = to_time(now)
        return message

    return write


def _pose(profile: Robot, period: float) -> Writer:
    def write(values: np.ndarray, now: float) -> PoseStamped:
        message = PoseStamped()
        message.header.stamp = to_time(now)
        message.header.frame_id = profile.base_frame
        position, orientation = message.pose.position, message.pose.orientation
        position.x, position.y, position.z = values[:3].tolist()
        length = float(np.linalg.norm(values[3:7]))
        if length < 1e-6:
            raise ContractError("the action's quaternion (entries 3 to 6, xyzw) has length 0")
        orientation.x, orientation.y, orientation.z, orientation.w = (values[3:7] / length).tolist()
        return message

    return write


def _twist(profile: Robot, period: float) -> Writer:
    def write(values: np.ndarray, now: float) -> TwistStamped:
        message = TwistStamped()
        message.header.stamp = to_time(now)
        message.header.frame_id = profile.base_frame
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (values / period).tolist()
        return message

    return write


def _needs(meaning: str, space: str, size: int = 0) -> dict[str, Any]:
    return {"meaning": meaning, "space": space, "size": size}


WRITERS: dict[str, tuple[type, Callable[[Robot, float], Writer], dict[str, Any]]] = {
    "joint_trajectory": (JointTrajectory, _trajectory, _needs("absolute", "joint")),
    "forward": (Float64MultiArray, _forward, _needs("absolute", "joint")),
    "joint_target": (JointState, _joint_target, _needs("absolute", "joint")),
    "pose": (PoseStamped, _pose, _needs("absolute", "cartesian", 7)),
    "twist": (TwistStamped, _twist, _needs("delta", "cartesian", 6)),
}


def build_output(node: Node, name: str, kind: str, action: Action, period: float) -> Output:
    """The output of the robot `name`, or none when it is empty. Raises ConfigError or ContractError."""
    if not name:
        return NoOutput()
    profile = robot(name)
    return RobotOutput(node, profile, kind or profile.default_output, action, period)


def limits_of(name: str, action: Action) -> Limits | None:
    """The limits of the robot `name` for this action; None, the contract's own, when the name is empty.

    Gripper entries have no joint limits: their range is the contract's.
    """
    if not name:
        return None
    limits = robot(name).limits(action.space)
    gripper = ActionSpace.from_action(action).gripper
    if not gripper.any() or action.space != "joint":
        return limits
    widened: dict[str, Any] = {}
    for bound in ("low", "high", "velocity", "acceleration", "jerk"):
        value = getattr(limits, bound)
        if value is not None:
            every = np.full(len(gripper), -np.inf if bound == "low" else np.inf)
            if len(value) != int((~gripper).sum()):
                raise ContractError(
                    f"{name} has {len(value)} joints, the action has {int((~gripper).sum())} besides the gripper"
                )
            every[~gripper] = value
            widened[bound] = tuple(every.tolist())
    return replace(limits, **widened)
