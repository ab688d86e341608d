"""What all nodes share: declared parameters, lifecycle, diagnostics, and a main that ends safely on a signal."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from diffbot.errors import DiffbotError
from diffbot_ros import qos
from diffbot_ros.spinning import one_thread

SPIN_S = 0.05  # longest wait before a signal is noticed
DIAGNOSTICS_S = 1.0
INACTIVE = "inactive"  # state of a node that is not activated, in its status and its diagnostics
PARENT_VARIABLE = "DIFFBOT_PARENT"  # process that started this one; when it is gone, the node ends too


class Node(LifecycleNode):
    """A lifecycle node with parameters given as {name: (default, description)}.

    Subclasses implement `configure`, `activate`, `deactivate`, `cleanup` and `diagnose`; a DiffbotError raised in one
    of the first two fails the transition with its message.
    """

    def __init__(self, name: str, parameters: dict[str, tuple[Any, str]]) -> None:
        super().__init__(name)
        parameters = {**parameters, "autostart": (True, "configure and activate at start")}
        self.settings = {
            key: self.declare_parameter(key, default, ParameterDescriptor(description=text)).value
            for key, (default, text) in parameters.items()
        }
        self.active = False
        self.error = ""
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.EVENT)
        self.create_timer(DIAGNOSTICS_S, self._publish_diagnostics)

    # What a node does -------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load and check everything; nothing moves yet."""

    def activate(self) -> None:
        """Start work."""

    def deactivate(self) -> None:
        """Stop work: last safe command, no thread left running."""

    def cleanup(self) -> None:
        """Give up what `configure` made."""

    def diagnose(self) -> tuple[int, str, dict[str, Any]]:
        """Level (DiagnosticStatus.OK/WARN/ERROR), summary and values."""
        return self.level(DiagnosticStatus.OK), "active" if self.active else INACTIVE, {}

    # Lifecycle --------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.settings = {key: self.get_parameter(key).value for key in self.settings}
        return self._transition(self.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._transition(self.activate)
        self.active = result == TransitionCallbackReturn.SUCCESS
        return result if not self.active else super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        self.deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.cleanup()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self.active:
            self.active = False
            self.deactivate()
        self.cleanup()
        return TransitionCallbackReturn.SUCCESS

    def _transition(self, work: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            work()
        except DiffbotError as error:
            self.error = str(error)
            self.get_logger().error(self.error)
            return TransitionCallbackReturn.FAILURE
        except Exception:
            # The lifecycle machinery drops exceptions without a word.
            self.error = traceback.format_exc()
            self.get_logger().fatal(self.error)
            return TransitionCallbackReturn.FAILURE
        self.error = ""
        return TransitionCallbackReturn.SUCCESS

    # Diagnostics ------------------------------------------------------------------------------------------------

    @staticmethod
    def level(level: Any) -> int:
        """DiagnosticStatus levels are bytes in Python."""
        return level[0] if isinstance(level, bytes) else int(level)

    def _publish_diagnostics(self) -> None:
        level, summary, values = self.diagnose()
        if self.error:
            level, summary = self.level(DiagnosticStatus.ERROR), self.error
        status = DiagnosticStatus(
            level=bytes([level]),
            name=self.get_fully_qualified_name(),
            message=summary,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def now(self) -> float:
        """The node's clock in seconds."""
        return self.get_clock().now().nanoseconds / 1e9


def run(build: Callable[[], Node], args: Sequence[str] | None = None, threads: int = 1) -> int:
    """Run a node until SIGINT or SIGTERM; returns the exit status (2 when it could not be configured).

    The library's own signal handlers would tear the context down first, and a last safe command could not be sent.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(
        args=list(args) if args is not None else sys.argv, signal_handler_options=SignalHandlerOptions.NO
    )
    parent = os.environ.get(PARENT_VARIABLE, "")
    node = build()
    executor = one_thread() if threads == 1 else MultiThreadedExecutor(threads)
    executor.add_node(node)
    try:
        if node.settings["autostart"]:
            if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                print(f"{node.get_name()}: {node.error}", file=sys.stderr, flush=True)
                return 2
            if node.trigger_activate() != TransitionCallbackReturn.SUCCESS:
                print(f"{node.get_name()}: {node.error}", file=sys.stderr, flush=True)
                return 2
        # What start-up has made stays: a full collection would walk through it again and again, for longer than a step.
        gc.collect()
        gc.freeze()
        while not stop.is_set() and (not parent or str(os.getppid()) == parent):
            executor.spin_once(timeout_sec=SPIN_S)
    finally:
        node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
