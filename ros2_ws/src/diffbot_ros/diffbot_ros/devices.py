"""What an operator holds: each device gives the action it wants now, or None while the operator's hand is off it."""

from __future__ import annotations

import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable
from typing import Protocol

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy

from diffbot.control import ActionSpace
from diffbot.data.contract import Contract
from diffbot.errors import ConfigError, ContractError, unknown
from diffbot_ros import qos
from diffbot_ros.fields import SOURCES

FRESH_S = 0.3  # a device that has been silent for longer is not held
KEYS = "wsadqeujikol"  # pairs: forward and back of the first, second, third, … motion entry


class Device(Protocol):
    """One input device."""

    def wanted(self) -> np.ndarray | None:
        """The action [A] the operator wants now, float32, or None."""

    def close(self) -> None:
        """Let go of the device."""


class Joystick:
    """sensor_msgs/Joy on `joy`, as joy_node publishes it: axis i moves motion entry i, for delta actions.

    Button 0 is the dead man's switch, button 1 closes the gripper while it is held, button 2 opens it.
    """

    def __init__(self, node: Node, contract: Contract, scale: float) -> None:
        self._space, self._scale = _delta(contract, "joystick"), scale
        self._grip = 0.0
        self._latest: tuple[float, np.ndarray] | None = None
        self._node = node
        self._subscription = node.create_subscription(Joy, "joy", self._take, qos.OBSERVATION_READER)

    def _take(self, message: Joy) -> None:
        if not (message.buttons and message.buttons[0]):
            self._latest = None
            return
        buttons = [*message.buttons, 0, 0, 0]
        self._grip = 1.0 if buttons[1] else -1.0 if buttons[2] else self._grip
        axes = np.zeros(self._space.size, np.float32)
        motion = np.flatnonzero(~self._space.gripper)
        count = min(len(motion), len(message.axes))
        axes[motion[:count]] = self._scale * np.asarray(message.axes[:count], np.float32)
        axes[self._space.gripper] = self._grip
        self._latest = (time.monotonic(), axes)

    def wanted(self) -> np.ndarray | None:
        return _fresh(self._latest)

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)


class Leader:
    """sensor_msgs/JointState on `leader/joint_states`: a leader arm whose joints are named like the action's entries."""

    def __init__(self, node: Node, contract: Contract, scale: float) -> None:
        action = contract.action
        if action.meaning != "absolute" or action.space != "joint" or not action.names:
            raise ContractError(
                "a leader arm gives absolute joint positions; the contract's action is "
                f"{action.meaning} {action.space} with names {list(action.names)}"
            )
        self._names = action.names
        self._read = SOURCES["sensor_msgs/msg/JointState"]["position"].read
        self._latest: tuple[float, np.ndarray] | None = None
        self._node = node
        self._subscription = node.create_subscription(
            JointState, "leader/joint_states", self._take, qos.OBSERVATION_READER
        )

    def _take(self, message: JointState) -> None:
        try:
            values = self._read(message, self._names).astype(np.float32)
        except ContractError as error:
            self._node.get_logger().error(f"leader: {error}", throttle_duration_sec=1.0)
            return
        if np.isfinite(values).all():
            self._latest = (time.monotonic(), values)

    def wanted(self) -> np.ndarray | None:
        return _fresh(self._latest)

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)


class Keyboard:
    """Keys of the terminal that the node runs in, for delta actions: w s, a d, q e, u j, i k, o l; space: gripper."""

    def __init__(self, node: Node, contract: Contract, scale: float) -> None:
        self._space, self._scale = _delta(contract, "keyboard"), scale
        if not sys.stdin.isatty():
            raise ConfigError(
                "the keyboard needs a terminal: run `python -m diffbot_ros.teleop` in one, or use device:=joystick"
            )
        self._motion = np.flatnonzero(~self._space.gripper)
        self._grip = -1.0
        self._latest: tuple[float, np.ndarray] | None = None
        self._ending = False
        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        self._thread = threading.Thread(target=self._listen, name="keyboard", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ending:
            if not select.select([sys.stdin], [], [], 0.1)[0]:
                continue
            key = sys.stdin.read(1)
            axes = np.zeros(self._space.size, np.float32)
            if key == " ":
                self._grip = -self._grip
            elif key in KEYS and KEYS.index(key) // 2 < len(self._motion):
                place, back = divmod(KEYS.index(key), 2)
                axes[self._motion[place]] = -self._scale if back else self._scale
            axes[self._space.gripper] = self._grip
            self._latest = (time.monotonic(), axes)

    def wanted(self) -> np.ndarray | None:
        return _fresh(self._latest)

    def close(self) -> None:
        self._ending = True
        self._thread.join()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)


DEVICES: dict[str, Callable[[Node, Contract, float], Device]] = {
    "joystick": Joystick,
    "keyboard": Keyboard,
    "leader": Leader,
}


def device_by_name(name: str, node: Node, contract: Contract, scale: float) -> Device:
    """The device, listening. Raises ConfigError or ContractError when it cannot give this contract's actions."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    return DEVICES[name](node, contract, scale)


def _fresh(latest: tuple[float, np.ndarray] | None) -> np.ndarray | None:
    return latest[1] if latest is not None and time.monotonic() - latest[0] < FRESH_S else None


def _delta(contract: Contract, what: str) -> ActionSpace:
    if contract.action.meaning != "delta":
        raise ContractError(f"a {what} gives motions; the contract's action is {contract.action.meaning}")
    return ActionSpace.from_action(contract.action)
