"""A leader arm over ROS 2 as a device: its joint positions become the set-points of the simulated arm."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from sim_envs.errors import SimEnvError, require
from sim_envs.teleoperation.device import OPEN, Command, DeviceLostError, Input, View

TOPIC, COMMAND_TOPIC = "leader/joint_states", "leader/command"
SILENT_S = 0.5  # a leader that has sent nothing for this long, while it leads, counts as lost
MAX_MESSAGES = 50  # taken at one read


class LeaderTopic:
    """sensor_msgs/JointState on `leader/joint_states`, joints named like the task's action (`robot0_joint1`, ...).

    An entry `robot0_gripper` in [-1, 1] leads the fingers, positive closes. Commands come as std_msgs/String on
    `leader/command` ("start", "stop", "discard", "undo", "success", "failure", "quit"), or from the page.
    The task must run joint set-points. Raises SimEnvError otherwise, and when rclpy is missing.
    """

    name = "leader-topic"
    help = f"publish sensor_msgs/JointState on {TOPIC}"
    shows_images = False

    def __init__(self, env: Any) -> None:
        task = env.unwrapped
        if (getattr(task, "controller", ""), getattr(task, "action_mode", "")) != (
            "JOINT_POSITION",
            "absolute",
        ):
            raise SimEnvError(
                "a leader arm gives absolute joint positions. Use: +env.controller=JOINT_POSITION +env.action_mode=absolute"
            )
        self._rclpy = require("rclpy", "ros")
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import JointState
        from std_msgs.msg import String

        # Joints of the first arm, and its gripper last.
        self._names = tuple(task.contract()["action"]["names"][:8])
        self._joints: np.ndarray | None = None
        self._grip = OPEN
        self._heard = 0.0
        self._given: list[Command] = []
        self._problem = ""
        self._leading = False
        self._context = self._rclpy.Context()
        self._context.init()
        self._node = self._rclpy.create_node("teleoperation_leader", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(JointState, TOPIC, self._take, qos_profile_sensor_data)
        self._node.create_subscription(String, COMMAND_TOPIC, self._obey, 10)

    def read(self) -> Input:
        """The leader's last posture. Raises DeviceLostError for a wrong message, or silence while an episode is recorded."""
        before = -1.0
        for _ in range(MAX_MESSAGES):
            before = self._heard
            self._executor.spin_once(timeout_sec=0.0)
            if self._heard == before:
                break
        if self._problem:
            raise DeviceLostError(self._problem)
        silent = time.monotonic() - self._heard
        if self._leading and self._joints is not None and silent > SILENT_S:
            raise DeviceLostError(f"the leader arm on '{TOPIC}' has been silent for {silent:.1f} s")
        commands, self._given = tuple(self._given), []
        return Input(grip=self._grip, commands=commands, joints=self._joints)

    def show(self, view: View) -> None:
        """Silence counts only while an episode is recorded."""
        self._leading = view.phase == "recording"

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

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
        self._joints = joints
        self._grip = float(np.clip(values.get(self._names[-1], self._grip), -1, 1))

    def _obey(self, message: Any) -> None:
        self._heard = time.monotonic()
        try:
            self._given.append(Command(message.data.strip().lower()))
        except ValueError:
            self._problem = f"'{COMMAND_TOPIC}' takes {', '.join(Command)}, got '{message.data}'"
