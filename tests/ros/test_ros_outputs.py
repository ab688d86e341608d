"""What real arms listen to: messages of the profiles, and refusal of actions that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from diffbot_ros import qos
from diffbot_ros.outputs import build_output, limits_of
from geometry_msgs.msg import PoseStamped, TwistStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from diffbot.control import Controller
from diffbot.control.robots import robot, robots
from diffbot.data.contract import Action, Contract, Field
from diffbot.errors import ConfigError, ContractError

PERIOD = 0.05


class Wire:
    """A node with the outputs' publishers and their subscribers in one process."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("outputs", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def listen(self, message: type, topic: str) -> list[Any]:
        seen: list[Any] = []
        self.node.create_subscription(message, topic, seen.append, qos.EVENT)
        while self.node.count_subscribers(topic) < 1:
            self.executor.spin_once(timeout_sec=0.05)
        return seen

    def until(self, seen: list[Any]) -> Any:
        for _ in range(400):
            if seen:
                return seen[-1]
            self.executor.spin_once(timeout_sec=0.05)
        raise AssertionError("no message within 20 s")


@pytest.fixture
def wire(ros_environment: dict[str, str]) -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.executor.shutdown()
    wire.node.destroy_node()
    wire.context.try_shutdown()


def joints(count: int, gripper: bool = True) -> Action:
    names = tuple(f"joint{i}" for i in range(count)) + (("gripper",) if gripper else ())
    return Action((len(names),), names=names, meaning="absolute", space="joint", low=(-3.0,), high=(3.0,))


@pytest.mark.ros
@pytest.mark.parametrize(
    ("name", "kind", "message", "read"),
    [
        ("panda", "joint_trajectory", JointTrajectory, lambda m: m.points[0].positions),
        ("ur5e", "forward", Float64MultiArray, lambda m: m.data),
        ("panda", "joint_target", JointState, lambda m: m.position),
        ("so101", "", Float64MultiArray, lambda m: m.data),
    ],
)
def test_joint_outputs(wire: Wire, name: str, kind: str, message: type, read: Any) -> None:
    profile = robot(name)
    action = joints(len(profile.joints))
    output = build_output(wire.node, name, kind, action, PERIOD)
    seen = wire.listen(message, profile.outputs[kind or profile.default_output]["topic"])
    hand = wire.listen(Float64MultiArray, profile.outputs["gripper"]["topic"])
    command = np.linspace(-0.5, 0.5, action.size).astype(np.float32)
    command[-1] = 1.0
    output.send(command, 12.0)
    got = wire.until(seen)
    np.testing.assert_array_equal(np.float32(read(got)), command[:-1])
    if isinstance(got, JointTrajectory):
        assert tuple(got.joint_names) == profile.joints
        assert got.header.stamp.sec == 0, "0 means from now on"
        assert got.points[0].time_from_start.nanosec == int(PERIOD * 1e9)
    assert list(wire.until(hand).data) == pytest.approx([profile.outputs["gripper"]["closed"]])
    output.close(wire.node)


@pytest.mark.ros
def test_cartesian_outputs(wire: Wire) -> None:
    pose = Action((7,), meaning="absolute", space="cartesian")
    output = build_output(wire.node, "panda", "pose", pose, PERIOD)
    seen = wire.listen(PoseStamped, "target_pose")
    output.send(np.float32([0.4, 0.1, 0.3, 0.0, 0.0, 2.0, 0.0]), 12.5)
    got = wire.until(seen)
    assert (got.header.stamp.sec, got.header.stamp.nanosec) == (12, 500_000_000)
    assert got.header.frame_id == "panda_link0"
    assert got.pose.orientation.z == 1.0, "quaternions are sent with length 1"
    with pytest.raises(ContractError, match="length 0"):
        output.send(np.zeros(7, np.float32), 12.5)

    twist = Action((6,), meaning="delta", space="cartesian")
    output = build_output(wire.node, "panda", "twist", twist, PERIOD)
    seen = wire.listen(TwistStamped, "servo_node/delta_twist_cmds")
    output.send(np.float32([0.01, 0, 0, 0, 0, 0.02]), 1.0)
    got = wire.until(seen)
    # a motion of 1 cm in 50 ms is 0.2 m/s
    assert got.twist.linear.x == pytest.approx(0.2) and got.twist.angular.z == pytest.approx(0.4)


@pytest.mark.ros
def test_actions_that_do_not_fit_are_refused(wire: Wire) -> None:
    with pytest.raises(
        ContractError, match=r"takes absolute joint actions with 6 entries .* has absolute joint with 5"
    ):
        build_output(wire.node, "ur5e", "forward", joints(5), PERIOD)
    with pytest.raises(ConfigError, match="Did you mean 'pose'"):
        build_output(wire.node, "panda", "poes", joints(7), PERIOD)
    with pytest.raises(ConfigError, match="Did you mean 'ur5e'"):
        build_output(wire.node, "ur5", "", joints(6), PERIOD)


# Published limits: see the sources named in each profile. Ranges in rad, velocities in rad/s, accelerations, jerks.
DEGREES = np.pi / 180
PUBLISHED = {
    "panda": {
        "low": [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973],
        "high": [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973],
        "velocity": [2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61],
        "acceleration": [15, 7.5, 10, 12.5, 15, 20, 20],
        "jerk": [7500, 3750, 5000, 6250, 7500, 10000, 10000],
    },
    "fr3": {
        "low": [-2.3476, -1.5454, -2.4937, -2.7714, -2.51, 0.7773, -2.7045],
        "high": [2.3476, 1.5454, 2.4937, -0.4226, 2.51, 4.2841, 2.7045],
        "velocity": [2, 1, 1.5, 1.25, 3, 1.5, 3],
        "acceleration": [10] * 7,
        "jerk": [5000] * 7,
    },
    "ur5e": {
        "low": [v * DEGREES for v in (-360, -360, -180, -360, -360, -360)],
        "high": [v * DEGREES for v in (360, 360, 180, 360, 360, 360)],
        "velocity": [180 * DEGREES] * 6,
    },
    "so101": {
        "low": [-1.91986, -1.74533, -1.69, -1.65806, -2.74385],
        "high": [1.91986, 1.74533, 1.69, 1.65806, 2.84121],
        "velocity": [45 * 2 * np.pi / 60] * 5,
    },
}


@pytest.mark.parametrize("name", robots())
def test_profiles_stay_inside_the_published_limits(name: str) -> None:
    own, published = robot(name).joint_limits, PUBLISHED[name]
    assert len(own["low"]) == len(robot(name).joints)
    for key, values in published.items():
        inside = np.array(own[key]) > np.array(values) if key == "low" else own[key] < np.array(values)
        assert inside.all(), f"{key}: {own[key]} against {values}"


@pytest.mark.parametrize("name", robots())
def test_profiles_give_limits_that_a_controller_keeps(name: str) -> None:
    profile = robot(name)
    action = joints(len(profile.joints))
    contract = Contract({"q": Field((1,))}, action, rate=50.0)
    limits = limits_of(name, action)
    controller = Controller(contract, limits)
    assert (controller.low[:-1] >= np.array(profile.joint_limits["low"]) - 1e-9).all()
    assert (controller.high[:-1] <= np.array(profile.joint_limits["high"]) + 1e-9).all()
    assert limits_of("", action) is None
