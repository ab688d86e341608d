"""The executor node: action chunks in, one bounded command out at every control step.

Topics in: `chunk`, `policy_status`. Out: `command`, `executor_status` and what the robot listens to (see outputs).
Services: `~/reset`, `~/emergency_stop` (std_srvs/SetBool).

On a robot the steps follow absolute deadlines of the monotonic clock in a thread of their own. With use_sim_time they
follow /clock: one step for each tick of the simulator.
"""

from __future__ import annotations

import array
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from diffbot_msgs.msg import ActionChunk, Command, ExecutorStatus, PolicyStatus
from diffbot_msgs.srv import ResetEpisode
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from diffbot.control import Command as Step
from diffbot.control import Controller
from diffbot.control.load import load_contract
from diffbot.errors import ConfigError, ContractError
from diffbot_ros import qos
from diffbot_ros.convert import action_names, chunk_from_message, seconds, to_time
from diffbot_ros.node import INACTIVE, Node, run
from diffbot_ros.outputs import build_output, limits_of

PARAMETERS: dict[str, tuple[Any, str]] = {
    "contract": ("", "policy bundle or contract.yaml that says what an action is"),
    "robot": (
        "",
        "robot profile with limits and command topics; empty: the contract's limits, `command` alone",
    ),
    "output": ("", "how the robot takes commands; empty: the profile's default"),
    "rate": (0.0, "Hz of control; 0: the contract's rate"),
    "action_horizon": (8, "control steps between two inferences"),
    "stitching": ("switch", "how a new chunk takes over: switch, blend, ensemble, rtc"),
    "policy_timeout": (
        0.5,
        "s without a word of the policy node after which the robot holds; 0 waits for ever",
    ),
    "realtime_priority": (
        0,
        "SCHED_FIFO priority of the control thread, 1..99 (needs the right to it); 0: none",
    ),
    "stop_time": (1.0, "s at most for the smooth stop when the node ends"),
}
GIL_SWITCH_S = 0.0005  # the other threads of this process must not hold a control step up for 5 ms
STATUS = {
    "run": Command.RUN,
    "limited": Command.LIMITED,
    "stopping": Command.STOPPING,
    "hold": Command.HOLD,
    "stopped": Command.STOPPED,
}
NO_CHUNK = "no_chunk"
RIVAL_S = 0.5  # s for which a policy is believed to be there after its last word, where policy_timeout is 0


class ExecutorNode(Node):
    """Follows the chunks of one policy."""

    def __init__(self) -> None:
        super().__init__("executor", PARAMETERS)
        self._lock = threading.Lock()
        self._estop = False
        self._reason = NO_CHUNK
        self._source, self._source_heard = "", float("-inf")
        self._rival, self._rival_heard = "", float("-inf")
        self._thread: threading.Thread | None = None

    def configure(self) -> None:
        settings = self.settings
        if not settings["contract"]:
            raise ConfigError("the parameter 'contract' must name a policy bundle or a contract.yaml")
        self._contract = contract = load_contract(settings["contract"])
        rate = float(settings["rate"]) or contract.rate
        if contract.action.meaning == "delta" and rate != contract.rate:
            raise ConfigError(
                f"delta actions go out at the contract's {contract.rate:g} Hz, not at {rate:g} Hz"
            )
        self._period = 1.0 / rate
        self._controller = Controller(
            contract,
            limits_of(settings["robot"], contract.action),
            settings["stitching"],
            int(settings["action_horizon"]),
            rate,
        )
        self._names = action_names(contract.action.names, contract.action.size)
        self._output = build_output(
            self, settings["robot"], settings["output"], contract.action, self._period
        )
        self._sim_time = bool(self.get_parameter("use_sim_time").value)
        self._publisher = self.create_publisher(Command, "command", qos.COMMAND_WRITER)
        self._status_publisher = self.create_publisher(ExecutorStatus, "executor_status", qos.STATUS)
        self._parts = [
            self.create_subscription(ActionChunk, "chunk", self._receive, qos.CHUNK),
            self.create_subscription(PolicyStatus, "policy_status", self._hear, qos.STATUS),
        ]
        if self._sim_time:
            self._parts.append(self.create_subscription(Clock, "/clock", self._tick_of_clock, qos.CLOCK))
        self._services = [
            self.create_service(ResetEpisode, "~/reset", self._reset),
            self.create_service(SetBool, "~/emergency_stop", self._emergency_stop),
        ]
        self._beat = self.create_timer(1.0, self._publish_status)
        self._begin(0)

    def activate(self) -> None:
        self._begin(self._episode)
        self._stopping = False
        if not self._sim_time:
            self._thread = threading.Thread(target=self._follow_deadlines, name="control", daemon=True)
            self._thread.start()

    def deactivate(self) -> None:
        """Stop smoothly, at control rate, before the last command is the last."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._last is None or self._last.reason == NO_CHUNK:
            return
        self._controller.emergency_stop()
        for _ in range(1 if self._sim_time else max(1, int(self.settings["stop_time"] / self._period))):
            self._step(self.now())
            if self._controller.shaper.at_rest:
                break
            time.sleep(self._period)

    def cleanup(self) -> None:
        if not hasattr(self, "_parts"):
            return
        for part in self._parts:
            self.destroy_subscription(part)
        for service in self._services:
            self.destroy_service(service)
        self.destroy_publisher(self._publisher)
        self.destroy_publisher(self._status_publisher)
        self.destroy_timer(self._beat)
        self._output.close(self)
        del self._parts

    # Control ----------------------------------------------------------------------------------------------------

    def _begin(self, episode: int) -> None:
        self._episode = episode
        self._controller.reset()
        if self._estop:
            self._controller.emergency_stop()
        self._last: Step | None = None
        self._sequence = self._late = self._holds = 0
        self._delays: dict[int, float] = {}
        self._fault = self._malformed = ""
        self._held_on_it = False  # whether a control step has held because of the malformed chunk
        self._heard = time.monotonic()

    def _follow_deadlines(self) -> None:
        """Absolute deadlines: a late step does not push the following ones, and steps that cannot be met are counted."""
        self._prioritise(int(self.settings["realtime_priority"]))
        start = time.monotonic()
        offset = self.now() - start
        tick = 0
        while not self._stopping:
            tick += 1
            deadline = start + tick * self._period
            wait = deadline - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            elif -wait > self._period:
                missed = int(-wait / self._period)
                tick += missed
                self._late += missed
                self._sequence += missed
                deadline = start + tick * self._period
            self._step(deadline + offset)
            if tick % 100 == 0 and abs(self.now() - time.monotonic() - offset) > self._period:
                offset = self.now() - time.monotonic()  # the system clock was set

    def _prioritise(self, priority: int) -> None:
        sys.setswitchinterval(GIL_SWITCH_S)
        if not priority:
            return
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except OSError as error:
            self.get_logger().warning(f"no real-time priority {priority}: {error.strerror}")

    def _tick_of_clock(self, message: Clock) -> None:
        if self.active:
            now = seconds(message.clock)
            self._step(now, again=self._last is not None and self._last.time == now)

    def _step(self, now: float, again: bool = False) -> None:
        with self._lock:
            fault = self._watch()
            if fault:
                self._controller.buffer.clear()  # what was planned before the fault is not executed after it
            step = self._controller.command(now)
            reason = fault if fault and step.reason in ("starved", NO_CHUNK) else step.reason
            changed = self._last is None or (self._last.status, self._reason) != (step.status, reason)
            self._last, self._reason = step, reason
            self._sequence += 0 if again else 1
            self._holds += step.status in ("hold", "stopped")
            message = self._message(step, reason)
            self._publisher.publish(message)
            if (
                step.known and step.reason != NO_CHUNK
            ):  # else nothing was ever commanded: the robot's own controller holds
                self._output.send(step.action, now)
        if changed:
            self._publish_status()

    def _watch(self) -> str:
        timeout = float(self.settings["policy_timeout"])
        if timeout and time.monotonic() - self._heard > timeout:
            return f"policy_silent: nothing heard of the policy node for {timeout:g} s"
        if time.monotonic() - self._rival_heard <= (timeout or RIVAL_S):
            return f"two_policies: {self._source} and {self._rival} send to this executor; stop one of them"
        if self._malformed:
            self._held_on_it = True
            return self._malformed
        return self._fault

    def _is_followed(self, source: str, active: bool = True) -> bool:
        """Whether this is the one policy that is followed. Another takes its place once it is inactive or silent."""
        now = time.monotonic()
        if source != self._source and now - self._source_heard <= (
            float(self.settings["policy_timeout"]) or RIVAL_S
        ):
            if active:  # a policy that stands by says that it is inactive
                self._rival, self._rival_heard = source, now
            return False
        if source == self._rival:
            self._rival_heard = float("-inf")
        self._source, self._source_heard = source, now if active else float("-inf")
        return True

    def _message(self, step: Step, reason: str) -> Command:
        message = Command(
            status=STATUS[step.status],
            reason=reason,
            chunk_id=step.chunk_id,
            step_index=step.step_index,
            chunk_delay=self._delays.get(step.chunk_id, 0.0),
            sequence=self._sequence - 1,
            episode=self._episode,
            names=list(self._names),
        )
        message.header.stamp = to_time(step.time)
        message.values = array.array("f", step.action.tobytes())
        return message

    # Callbacks --------------------------------------------------------------------------------------------------

    def _receive(self, message: ActionChunk) -> None:
        arrived = self.now()
        if not self.active:
            return
        if not self._is_followed(message.source):
            self._controller.counters["other_policy"] += 1
            return
        if message.episode != self._episode:
            self._controller.counters["other_episode"] += 1
            return
        self._heard = time.monotonic()
        try:
            chunk = chunk_from_message(message)
            if tuple(message.names) != self._names:
                raise ContractError(f"chunk entries are {list(message.names)}, expected {list(self._names)}")
        except ContractError as error:
            # Neither a heartbeat nor a good chunk may wipe this out before a control step has held on it.
            self._malformed, self._held_on_it = f"malformed_chunk: {error}", False
            self.get_logger().error(self._malformed, throttle_duration_sec=1.0)
            return
        with self._lock:
            reason = self._controller.push(chunk, arrived)
            if not reason:
                self._fault = ""
                self._malformed = "" if self._held_on_it else self._malformed
                self._delays = {i: d for i, d in self._delays.items() if i > chunk.id - 16}
                self._delays[chunk.id] = arrived - chunk.start
        if reason:
            self.get_logger().warning(f"chunk {chunk.id} refused: {reason}", throttle_duration_sec=1.0)
        elif self._sim_time and self._last is not None and self._last.reason == NO_CHUNK:
            self._step(self._last.time, again=True)  # the simulator waits for the first command

    def _hear(self, message: PolicyStatus) -> None:
        if not self._is_followed(message.source, active=message.reason != INACTIVE):
            return
        self._heard = time.monotonic()
        if message.contract_hash != self._contract.hash():
            self._fault = (
                f"contract_mismatch: the policy has contract {message.contract_hash}, "
                f"this executor {self._contract.hash()}"
            )
        else:
            self._fault = f"policy: {message.reason}" if message.reason else ""

    def _reset(self, request: ResetEpisode.Request, response: ResetEpisode.Response) -> ResetEpisode.Response:
        with self._lock:
            self._begin(request.seed)
        response.success = self.active
        response.message = "" if self.active else f"the executor node is not active. {self.error}".strip()
        response.stamp = self.get_clock().now().to_msg()
        return response

    def _emergency_stop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            self._estop = request.data
            self._controller.emergency_stop(request.data)
        response.success = True
        response.message = "stopped" if request.data else "released"
        self._publish_status()
        return response

    def _publish_status(self) -> None:
        last = self._last
        message = ExecutorStatus(
            status=STATUS[last.status] if last else Command.HOLD,
            reason=self._reason if last else NO_CHUNK,
            episode=self._episode,
            emergency_stop=self._estop,
            steps=self._sequence,
            holds=self._holds,
            late=self._late,
            counters=[KeyValue(key=k, value=str(v)) for k, v in sorted(self._controller.counters.items())],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status_publisher.publish(message)

    def diagnose(self) -> tuple[int, str, dict[str, Any]]:
        if not self.active:
            return self.level(DiagnosticStatus.OK), INACTIVE, {}
        holding = self._last is not None and self._last.status in ("hold", "stopping", "stopped")
        level = DiagnosticStatus.WARN if holding else DiagnosticStatus.OK
        values = {
            "steps": self._sequence,
            "holds": self._holds,
            "late": self._late,
            **self._controller.counters,
        }
        return self.level(level), (self._reason if holding else "") or "following", values


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: python -m diffbot_ros.executor, or ros2 run diffbot_ros executor."""
    return run(ExecutorNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
