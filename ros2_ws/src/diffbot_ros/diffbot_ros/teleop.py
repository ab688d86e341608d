"""The teleoperation node: an operator's device in, `command` out, under the same limits as a policy's chunks.

Shared control: with `share` true the node also hears `policy_command` (an executor's `command`, renamed); the operator's
hand on the device takes over at once, and when it lets go the policy goes on.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from diffbot_msgs.msg import Command
from rosgraph_msgs.msg import Clock

from diffbot.control import Chunk, Controller
from diffbot.control.load import load_contract
from diffbot.errors import ConfigError
from diffbot_ros import qos
from diffbot_ros.convert import action_names, seconds, to_time
from diffbot_ros.devices import device_by_name
from diffbot_ros.executor import STATUS
from diffbot_ros.node import INACTIVE, Node, run
from diffbot_ros.outputs import build_output, limits_of

PARAMETERS: dict[str, tuple[Any, str]] = {
    "contract": ("", "policy bundle or contract.yaml that says what an action is"),
    "device": ("joystick", "joystick, keyboard or leader"),
    "scale": (0.5, "motion of a fully deflected axis, in units of the action"),
    "share": (False, "follow `policy_command` while the operator's hand is off the device"),
    "robot": ("", "robot profile with limits and command topics"),
    "output": ("", "how the robot takes commands; empty: the profile's default"),
}


class TeleopNode(Node):
    """One operator."""

    def __init__(self) -> None:
        super().__init__("teleop", PARAMETERS)
        self._sequence = self._operated = 0
        self._policy: tuple[float, np.ndarray] | None = None

    def configure(self) -> None:
        settings = self.settings
        if not settings["contract"]:
            raise ConfigError("the parameter 'contract' must name a policy bundle or a contract.yaml")
        self._contract = contract = load_contract(settings["contract"])
        self._period = 1.0 / contract.rate
        self._controller = Controller(contract, limits_of(settings["robot"], contract.action), "switch", 1)
        self._names = action_names(contract.action.names, contract.action.size)
        self._device = device_by_name(settings["device"], self, contract, float(settings["scale"]))
        self._output = build_output(
            self, settings["robot"], settings["output"], contract.action, self._period
        )
        self._publisher = self.create_publisher(Command, "command", qos.COMMAND_WRITER)
        self._parts: list[Any] = []
        if settings["share"]:
            self._parts.append(
                self.create_subscription(Command, "policy_command", self._hear_policy, qos.COMMAND)
            )
        if self.get_parameter("use_sim_time").value:
            self._parts.append(self.create_subscription(Clock, "/clock", self._tick_of_clock, qos.CLOCK))
            self._timer = None
        else:
            self._timer = self.create_timer(self._period, lambda: self._step(self.now()))

    def cleanup(self) -> None:
        if not hasattr(self, "_parts"):
            return
        self._device.close()
        self._output.close(self)
        for part in self._parts:
            self.destroy_subscription(part)
        if self._timer is not None:
            self.destroy_timer(self._timer)
        self.destroy_publisher(self._publisher)
        del self._parts

    def deactivate(self) -> None:
        self._controller.emergency_stop()
        self._send(self.now())

    def _tick_of_clock(self, message: Clock) -> None:
        self._step(seconds(message.clock))

    def _hear_policy(self, message: Command) -> None:
        if message.chunk_id >= 0:
            self._policy = (seconds(message.header.stamp), np.array(message.values, np.float32))

    def _step(self, now: float) -> None:
        if not self.active:
            return
        wanted = self._device.wanted()
        self._operated += wanted is not None
        if wanted is None and self._policy is not None and abs(now - self._policy[0]) < 2 * self._period:
            wanted = self._policy[1]
        if wanted is not None:
            # Two steps: the second bridges a late tick; after it the controller holds.
            chunk = Chunk(np.stack([wanted, wanted]), now, self._period, self._sequence)
            reason = self._controller.push(chunk, now)
            if reason:
                self.get_logger().warning(f"refused: {reason}", throttle_duration_sec=1.0)
        self._send(now)

    def _send(self, now: float) -> None:
        step = self._controller.command(now)
        message = Command(
            status=STATUS[step.status],
            # A simulator waits for a policy's first chunk, not for an operator: to hold is a command here.
            reason="operator_idle" if step.reason == "no_chunk" else step.reason,
            chunk_id=step.chunk_id,
            step_index=step.step_index,
            sequence=self._sequence,
            names=list(self._names),
        )
        message.header.stamp = to_time(now)
        message.values = array.array("f", step.action.tobytes())
        self._sequence += 1
        self._publisher.publish(message)
        if step.reason != "no_chunk":
            self._output.send(step.action, now)

    def diagnose(self) -> tuple[int, str, dict[str, Any]]:
        values = {"steps": self._sequence, "operated": self._operated}
        return self.level(DiagnosticStatus.OK), "active" if self.active else INACTIVE, values


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: python -m diffbot_ros.teleop, or ros2 run diffbot_ros teleop."""
    return run(TeleopNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
