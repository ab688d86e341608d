"""A robot made of topics: for measuring the nodes, for their tests, and for trying a policy without any robot.

It publishes observations of a contract on the wall clock and notes every chunk, command and status with its arrival time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from diffbot_msgs.msg import ActionChunk, Command, ExecutorStatus, PolicyStatus, StampedArray
from diffbot_msgs.srv import ResetEpisode
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from diffbot.data.contract import Contract
from diffbot.errors import DiffbotError
from diffbot_ros import qos
from diffbot_ros.fields import to_message
from diffbot_ros.node import INACTIVE
from diffbot_ros.spinning import one_thread


class Probe:
    """A context manager: inside it a thread receives. Lists hold (arrival in s of the monotonic clock, message)."""

    def __init__(self, contract: Contract, namespace: str = "") -> None:
        self.contract = contract
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = node = rclpy.create_node("probe", context=self._context, namespace=namespace)
        self._executor = one_thread(self._context)
        self._executor.add_node(node)
        self._changed = threading.Condition()
        self.chunks: list[tuple[float, ActionChunk]] = []
        self.commands: list[tuple[float, Command]] = []
        self.policy: list[tuple[float, PolicyStatus]] = []
        self.executor: list[tuple[float, ExecutorStatus]] = []
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, qos.EVENT)
        self.on_command: Callable[[Command], None] | None = None
        self.publishers: dict[str, Any] = {}
        self.make_publishers()
        self.chunk_publisher = node.create_publisher(ActionChunk, "chunk", qos.CHUNK)
        for message, topic, target, profile in (
            (ActionChunk, "chunk", self.chunks, qos.EVENT),
            (Command, "command", self.commands, qos.EVENT),
            (PolicyStatus, "policy_status", self.policy, qos.STATUS),
            (ExecutorStatus, "executor_status", self.executor, qos.STATUS),
        ):
            node.create_subscription(message, topic, self._noting(target), profile)
        self._resets = {n: node.create_client(ResetEpisode, f"{n}/reset") for n in ("policy", "executor")}
        self._stop_client = node.create_client(SetBool, "executor/emergency_stop")
        self._thread = threading.Thread(target=self._spin, name="probe", daemon=True)
        self._ending = False

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    @property
    def node(self) -> Any:
        """The rclpy node, for further topics."""
        return self._node

    def make_publishers(self) -> None:
        """Create the publishers of all observations."""
        self.publishers = {
            key: self._node.create_publisher(
                Image if field.kind == "image" else StampedArray,
                f"observation/{key}",
                qos.IMAGE_WRITER if field.kind == "image" else qos.OBSERVATION_WRITER,
            )
            for key, field in self.contract.observations.items()
        }

    def now(self) -> float:
        """The ROS clock in s."""
        return self._node.get_clock().now().nanoseconds / 1e9

    def publish(self, values: Mapping[str, np.ndarray], stamp: float | None = None) -> float:
        """Publish one observation; returns its stamp in s, now by default."""
        stamp = self.now() if stamp is None else stamp
        for key, value in values.items():
            self.publishers[key].publish(to_message(self.contract.observations[key], value, stamp))
        return stamp

    def ready(self, *, policy: bool = True, executor: bool = True, timeout: float = 120.0) -> None:
        """Wait until the nodes are active and hear this one. Raises DiffbotError."""
        deadline = time.monotonic() + timeout
        for name, wanted in (("policy", policy), ("executor", executor)):
            if wanted and not self._resets[name].wait_for_service(max(0.1, deadline - time.monotonic())):
                raise DiffbotError(f"the {name} node did not appear within {timeout:g} s")
        if policy:
            while not all(p.get_subscription_count() for p in self.publishers.values()):
                if time.monotonic() > deadline:
                    raise DiffbotError("the policy node does not listen to the observations")
                time.sleep(0.01)
            self.wait(
                lambda: bool(self.policy) and self.policy[-1][1].reason != INACTIVE,
                max(1.0, deadline - time.monotonic()),
            )

    def wait(self, condition: Callable[[], bool], timeout: float = 60.0, what: str = "the condition") -> None:
        """Wait until what has been received satisfies `condition`. Raises DiffbotError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise DiffbotError(f"{what} did not come true within {timeout:g} s")

    def reset(self, seed: int, *, policy: bool = True, executor: bool = True) -> None:
        """Begin an episode in the nodes."""
        for name, wanted in (("policy", policy), ("executor", executor)):
            if wanted:
                self.call(self._resets[name], ResetEpisode.Request(seed=seed))

    def emergency_stop(self, on: bool) -> None:
        """Engage or release the executor's emergency stop."""
        self.call(self._stop_client, SetBool.Request(data=on))

    def call(self, client: Any, request: Any, timeout: float = 30.0) -> None:
        """Call a service whose answer has `success`. Raises DiffbotError."""
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout) or future.result() is None or not future.result().success:
            raise DiffbotError(
                f"{client.srv_name} failed: {future.result() if future.done() else 'no answer'}"
            )

    def _noting(self, target: list[tuple[float, Any]]) -> Callable[[Any], None]:
        def note(message: Any) -> None:
            now = time.monotonic()
            with self._changed:
                target.append((now, message))
                self._changed.notify_all()
            if isinstance(message, Command) and self.on_command is not None:
                self.on_command(message)

        return note

    def _diagnose(self, message: DiagnosticArray) -> None:
        with self._changed:
            self.diagnostics.update({status.name: status for status in message.status})
            self._changed.notify_all()

    def diagnostic(self, node: str, key: str) -> str:
        """The latest value that a node reports in its diagnostics, or ""."""
        status = self.diagnostics.get(node)
        return next((v.value for v in status.values if v.key == key), "") if status is not None else ""

    def _spin(self) -> None:
        while not self._ending:
            try:
                self._executor.spin_once(timeout_sec=0.02)
            except ExternalShutdownException:
                return
