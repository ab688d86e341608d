"""Leaders over ROS 2 as devices: an arm whose joints, or something held whose pose, the simulated arm follows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.errors import SimEnvError, require
from sim_envs.teleoperation.device import OPEN, Command, DeviceLostError, Input, View
from sim_envs.teleoperation.tracking import twist_towards

TOPIC, COMMAND_TOPIC = "leader/joint_states", "leader/command"
POSE_TOPIC, GRIP_TOPIC = "leader/pose", "leader/grip"
SILENT_S = 0.5  # a leader that has sent nothing for this long, while it leads, counts as lost
MAX_MESSAGES = 50  # taken at one read


class Leader:
    """What both share: a node of their own, commands, and the watch over a leader that falls silent.

    Commands come as std_msgs/String on `leader/command` ("start", "stop", "discard", "undo", "success", "failure",
    "quit"), or from the page. Raises SimEnvError when rclpy is missing.
    """

    shows_images = False
    topic: str

    def __init__(self) -> None:
        self._rclpy = require("rclpy", "ros")
        from rclpy.executors import SingleThreadedExecutor
        from std_msgs.msg import String

        self._grip = OPEN
        self._heard = 0.0
        self._led = False
        self._given: list[Command] = []
        self._problem = ""
        self._leading = False
        self._context = self._rclpy.Context()
        self._context.init()
        self._node = self._rclpy.create_node("teleoperation_leader", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(String, COMMAND_TOPIC, self._obey, 10)

    def read(self) -> Input:
        """The leader's last message. Raises DeviceLostError for a wrong one, or silence while an episode is recorded."""
        for _ in range(MAX_MESSAGES):
            before = self._heard
            self._executor.spin_once(timeout_sec=0.0)
            if self._heard == before:
                break
        if self._problem:
            raise DeviceLostError(self._problem)
        silent = time.monotonic() - self._heard
        if self._leading and self._led and silent > SILENT_S:
            raise DeviceLostError(f"the leader on '{self.topic}' has been silent for {silent:.1f} s")
        commands, self._given = tuple(self._given), []
        return self._input(commands)

    def show(self, view: View) -> None:
        """Silence counts only while an episode is recorded."""
        self._leading = view.phase == "recording"

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _input(self, commands: tuple[Command, ...]) -> Input:
        raise NotImplementedError

    def _obey(self, message: Any) -> None:
        self._heard = time.monotonic()
        try:
            self._given.append(Command(message.data.strip().lower()))
        except ValueError:
            self._problem = f"'{COMMAND_TOPIC}' takes {', '.join(Command)}, got '{message.data}'"


class LeaderTopic(Leader):
    """sensor_msgs/JointState on `leader/joint_states`, joints named like the task's action (`robot0_joint1`, ...).

    An entry `robot0_gripper` in [-1, 1] leads the fingers, positive closes. The task must run joint set-points: raises
    SimEnvError otherwise.
    """

    name = "leader-topic"
    topic = TOPIC
    help = f"publish sensor_msgs/JointState on {TOPIC}"

    def __init__(self, env: Any) -> None:
        task = env.unwrapped
        if (getattr(task, "controller", ""), getattr(task, "action_mode", "")) != (
            "JOINT_POSITION",
            "absolute",
        ):
            raise SimEnvError(
                "a leader arm gives absolute joint positions. Use: +env.controller=JOINT_POSITION +env.action_mode=absolute"
            )
        super().__init__()
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import JointState

        # Joints of the first arm, and its gripper last.
        self._names = tuple(task.contract()["action"]["names"][:8])
        self._joints: np.ndarray | None = None
        self._node.create_subscription(JointState, TOPIC, self._take, qos_profile_sensor_data)

    def _input(self, commands: tuple[Command, ...]) -> Input:
        return Input(grip=self._grip, commands=commands, joints=self._joints)

    def _take(self, message: Any) -> None:
        self._heard = time.monotonic()
        values = dict(zip(message.name, message.position, strict=False))
        missing = [name for name in self._names[:-1] if name not in values]
        if missing:
            self._problem = (
                f"'{TOPIC}' lacks the joints {', '.join(missing)}; it has: {', '.join(message.name)}"
            )
            return
        joints = np.array([values[name] for name in self._names[:-1]], np.float64)
        if not np.isfinite(joints).all():
            return  # a reading that is not a number is no reading; silence follows if it lasts
        self._joints, self._led = joints, True
        self._grip = float(np.clip(values.get(self._names[-1], self._grip), -1, 1))


class LeaderPose(Leader):
    """geometry_msgs/PoseStamped on `leader/pose`: a tracked controller, a phone, another arm's gripper.

    The gripper repeats the leader's motion since the recording began: a displacement in the world frame and a
    rotation about the world's axes, whatever the leader's first pose. std_msgs/Float32 on `leader/grip` in [-1, 1]
    leads the fingers, positive closes. Works with every controller of a robosuite task.
    """

    name = "leader-pose"
    topic = POSE_TOPIC
    help = f"publish geometry_msgs/PoseStamped on {POSE_TOPIC}"

    def __init__(self, env: Any) -> None:
        super().__init__()
        from geometry_msgs.msg import PoseStamped
        from rclpy.qos import qos_profile_sensor_data
        from std_msgs.msg import Float32

        self._leader: tuple[np.ndarray, Rotation] | None = None
        self._leader_start: tuple[np.ndarray, Rotation] | None = None
        self._gripper: tuple[np.ndarray, Rotation] | None = None
        self._gripper_start: tuple[np.ndarray, Rotation] | None = None
        self._node.create_subscription(PoseStamped, POSE_TOPIC, self._take, qos_profile_sensor_data)
        self._node.create_subscription(Float32, GRIP_TOPIC, self._grasp, 10)

    def show(self, view: View) -> None:
        """Take the gripper's pose. The leader's motion counts from where it was when the recording began."""
        super().show(view)
        w, x, y, z = view.quaternion
        self._gripper = (view.position.copy(), Rotation.from_quat([x, y, z, w]))
        if view.fresh:
            self._grip = view.grip
        if view.fresh or not self._leading:
            self._gripper_start, self._leader_start = self._gripper, self._leader

    def _input(self, commands: tuple[Command, ...]) -> Input:
        if self._leader is None or self._gripper is None or self._gripper_start is None:
            return Input(grip=self._grip, commands=commands)
        if self._leader_start is None:
            self._leader_start = self._leader
        target = (
            self._gripper_start[0] + self._leader[0] - self._leader_start[0],
            self._leader[1] * self._leader_start[1].inv() * self._gripper_start[1],
        )
        return Input(twist_towards(self._gripper, target), self._grip, commands)

    def _take(self, message: Any) -> None:
        self._heard = time.monotonic()
        p, q = message.pose.position, message.pose.orientation
        position, quaternion = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
        if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
            return  # a reading that is not a number is no reading; silence follows if it lasts
        length = float(np.linalg.norm(quaternion))
        if abs(length - 1.0) > 0.01:
            self._problem = f"'{POSE_TOPIC}' needs a unit quaternion, got one of length {length:.3f}"
            return
        self._leader, self._led = (position, Rotation.from_quat(quaternion)), True

    def _grasp(self, message: Any) -> None:
        self._heard = time.monotonic()
        if np.isfinite(message.data):
            self._grip = float(np.clip(message.data, -1, 1))
