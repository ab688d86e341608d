"""The view node: a browser page of a running graph. It only listens.

Topics in: the observations of the contract, `chunk`, `command`, `policy_status`, `executor_status`, `joint_states` and
`robot_description` (URDF, drawn as lines), `simulator/state` (drawn as the task's scene with `scene:=true`).
The page is served on this machine alone unless `host` says otherwise.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from diffbot_msgs.msg import ActionChunk, Command, ExecutorStatus, PolicyStatus, StampedArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from diffbot.control.load import load_contract
from diffbot.errors import ConfigError, ContractError
from diffbot_ros import qos
from diffbot_ros.bindings import Binding, load_bindings
from diffbot_ros.convert import chunk_from_message, seconds
from diffbot_ros.executor import STATUS
from diffbot_ros.node import Node, run
from diffbot_ros.skeleton import Skeleton
from diffbot_ros.view_page import Page
from diffbot_ros.view_track import Track, find_position, motion_columns

PARAMETERS: dict[str, tuple[Any, str]] = {
    "contract": ("", "policy bundle or contract.yaml of the graph"),
    "bindings": ("", "YAML file from contract keys to topics; empty: observation/<key>"),
    "host": ("127.0.0.1", "address that the page is served on; 0.0.0.0: every one of this machine"),
    "port": (8090, "port of the page; 0: any free one"),
    "position": ("", "observation that is drawn as the executed path; empty: the end effector's"),
    "scene": (False, "draw the simulated task of the contract as its simulator publishes it"),
    "refresh": (5.0, "Hz of the page, while it is open"),
}
NAMES = {number: name for name, number in STATUS.items()}
WORD_S = 2.0  # without a command after which the page says so


class ViewNode(Node):
    """Shows one robot."""

    def __init__(self) -> None:
        super().__init__("view", PARAMETERS)
        self._page: Page | None = None

    def configure(self) -> None:
        settings = self.settings
        if not settings["contract"]:
            raise ConfigError("the parameter 'contract' must name a policy bundle or a contract.yaml")
        if not settings["refresh"] > 0:
            raise ConfigError(f"refresh must be positive, got {settings['refresh']}")
        contract = load_contract(settings["contract"])
        self._track = Track(contract, find_position(contract, settings["position"]))
        self._policy: PolicyStatus | None = None
        self._executor: ExecutorStatus | None = None
        self._joints: dict[str, float] = {}
        self._images: dict[str, np.ndarray] = {}
        self._skeleton: Skeleton | None = None
        self._status, self._reason, self._heard = "", "", 0.0
        self._arrivals: deque[float] = deque(maxlen=200)
        self._note = self._scene_note = ""
        self._scene: Any = None
        title = f"{contract.task or 'robot'} {self.get_namespace().rstrip('/')}".strip()
        try:
            self._page = Page(self._track, settings["host"], int(settings["port"]), title)
        except OSError as error:
            raise ConfigError(
                f"the page cannot be served on {settings['host']}:{settings['port']}: {error}"
            ) from error
        if settings["scene"]:
            from diffbot_ros.view_scene import Scene

            self._scene = Scene(self._page.server, contract.task)
        bindings = load_bindings(contract, settings["bindings"])
        listen = self.create_subscription
        self._inputs = [
            listen(b.source.message, b.topic, functools.partial(self._observe, b), qos.reader(b.type_name))
            for b in bindings.values()
        ]
        self._inputs += [
            listen(ActionChunk, "chunk", self._plan, qos.CHUNK),
            listen(Command, "command", self._command, qos.EVENT),
            listen(PolicyStatus, "policy_status", self._hear_policy, qos.STATUS),
            listen(ExecutorStatus, "executor_status", self._hear_executor, qos.STATUS),
            listen(JointState, "joint_states", self._hear_joints, qos.OBSERVATION_READER),
            listen(String, "robot_description", self._describe, qos.STATUS),
        ]
        if self._scene is not None:
            self._inputs.append(listen(StampedArray, "simulator/state", self._pose, qos.OBSERVATION_READER))
        self._redraw = self.create_timer(1.0 / settings["refresh"], self._draw)
        self.get_logger().info(f"open {self._page.address}")

    def cleanup(self) -> None:
        if self._page is None:
            return
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self.destroy_timer(self._redraw)
        if self._scene is not None:
            self._scene.close()
        self._page.close()
        self._page = None

    # Callbacks --------------------------------------------------------------------------------------------------

    def _observe(self, binding: Binding, message: Any) -> None:
        try:
            stamp, value = binding.read(message)
        except ContractError as error:
            self._note = str(error)
            return
        self._track.arrive(stamp, time.monotonic())
        if binding.field.kind == "image":
            self._images[binding.key] = value
        elif binding.key == self._track.position:
            self._track.observe(value)

    def _plan(self, message: ActionChunk) -> None:
        try:
            chunk = chunk_from_message(message)
        except ContractError as error:
            self._note = str(error)
            return
        if chunk.actions.shape[1] != self._track.contract.action.size:
            self._note = f"chunk {chunk.id} has {chunk.actions.shape[1]} entries"
            return
        self._track.begin(int(message.episode))
        self._track.plan(chunk, time.monotonic())

    def _command(self, message: Command) -> None:
        self._status, self._reason = NAMES.get(message.status, "unknown"), message.reason
        self._heard = time.monotonic()
        self._arrivals.append(self._heard)
        values = np.frombuffer(message.values, np.float32)
        if message.reason == "no_chunk" or values.size != self._track.contract.action.size:
            return
        self._track.begin(int(message.episode))
        self._track.command(seconds(message.header.stamp), values.astype(np.float64))

    def _hear_policy(self, message: PolicyStatus) -> None:
        self._policy = message

    def _hear_executor(self, message: ExecutorStatus) -> None:
        self._executor = message

    def _hear_joints(self, message: JointState) -> None:
        self._joints.update(zip(message.name, message.position, strict=False))

    def _describe(self, message: String) -> None:
        try:
            self._skeleton = Skeleton(message.data)
        except ConfigError as error:
            self._note = str(error)
            self.get_logger().error(self._note)

    def _pose(self, message: StampedArray) -> None:
        self._scene.latest = np.frombuffer(message.values, np.float64)

    # The page ---------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        page = self._page
        if page is None or not page.watched:
            return
        page.facts(self._tables(), self._status_now())
        page.motion()
        for key, pixels in self._images.items():
            page.image(key, pixels)
        if self._skeleton is not None:
            page.bones(self._skeleton, self._joints)
        if self._scene is not None:
            self._scene_note = self._scene.draw(self._track.episode)

    def _status_now(self) -> str:
        silence = time.monotonic() - self._heard
        if not self._heard or silence > WORD_S:
            return "no commands"
        return self._status

    def _tables(self) -> dict[str, dict[str, object]]:
        track, policy, executor = self._track, self._policy, self._executor
        tables: dict[str, dict[str, object]] = {}
        reason = self._reason if self._status_now() != "no commands" else "the executor is not heard"
        tables["command"] = {"reason": reason or "—", "rate": _rate(self._arrivals)}
        if policy is not None:
            tables["policy"] = {
                "method": policy.method,
                "task": policy.task or "—",
                "contract": policy.contract_hash
                + ("" if policy.contract_hash == track.contract.hash() else " (not this view's contract)"),
                "episode": policy.episode,
                "chunks": policy.chunks,
                "refused observations": policy.refused,
                "says": policy.reason or "ok",
            }
            tables["latency"] = {
                "inference p50 / p99": f"{1e3 * policy.inference_p50_s:.1f} / {1e3 * policy.inference_p99_s:.1f} ms",
                "observation to chunk p50 / p99": _quantiles(track.delays),
            }
        if executor is not None:
            tables["steps"] = {"done": executor.steps, "held": executor.holds, "late": executor.late}
            tables["limits and refusals"] = {pair.key: pair.value for pair in executor.counters} or {
                "none": ""
            }
        if self._joints:
            tables["joints"] = {name: f"{value:+.3f}" for name, value in self._joints.items()}
        if track.path:
            tables["position"] = {track.position: " ".join(f"{v:+.3f}" for v in track.path[-1])}
        notes = [note for note in (self._missing(), self._note, self._scene_note) if note]
        if notes:
            tables["notes"] = {str(i + 1): note for i, note in enumerate(notes)}
        return tables

    def _missing(self) -> str:
        """Why there is no ribbon, where there cannot be one."""
        track = self._track
        action = track.contract.action
        if not track.position:
            return "no ribbon: no observation is a position in m; name one with position:=KEY"
        if motion_columns(action, track.contract.observations[track.position].size) is None:
            return (
                f"no ribbon: a {action.space} action in '{action.unit}' is no motion in space; see the charts"
            )
        return ""

    def diagnose(self) -> tuple[int, str, dict[str, Any]]:
        level, summary, values = super().diagnose()
        if self._page is not None:
            values = {"address": self._page.address, "open": self._page.watched}
        return level, summary, values


def _rate(arrivals: deque[float]) -> str:
    if len(arrivals) < 2:
        return "—"
    return f"{(len(arrivals) - 1) / max(arrivals[-1] - arrivals[0], 1e-9):.1f} Hz"


def _quantiles(values: deque[float]) -> str:
    if not values:
        return "—"
    p50, p99 = 1e3 * np.quantile(np.array(values), (0.5, 0.99))
    return f"{p50:.1f} / {p99:.1f} ms"


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: python -m diffbot_ros.view, or ros2 run diffbot_ros view."""
    return run(ViewNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
