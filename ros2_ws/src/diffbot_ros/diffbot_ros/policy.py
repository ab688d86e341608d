"""The policy node: observations in, stamped action chunks out.

Topics in: one for each observation of the contract (see bindings). Out: `chunk`, `policy_status`. Service: `~/reset`.
The executor thread only checks and buffers; one inference thread thinks; the network is warm before `activate`.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from diffbot_msgs.msg import ActionChunk, PolicyStatus
from diffbot_msgs.srv import ResetEpisode

from diffbot.control import Chunk, ChunkBuffer, stitcher_by_name
from diffbot.control.load import load_runner
from diffbot.errors import ConfigError, ContractError
from diffbot_ros import qos
from diffbot_ros.align import Aligner, BackwardsError, RefusedError
from diffbot_ros.bindings import Binding, check_publishers, load_bindings
from diffbot_ros.convert import action_names, chunk_to_message
from diffbot_ros.inference import InferenceLoop
from diffbot_ros.node import INACTIVE, Node, run

PARAMETERS: dict[str, tuple[Any, str]] = {
    "policy": ("", "folder of the policy bundle"),
    "bindings": ("", "YAML file from contract keys to topics; empty: observation/<key>"),
    "seed": (0, "seed of the sampler's noise"),
    "episode": (0, "seed of the episode that starts on activation"),
    "backend": ("auto", "inference backend"),
    "threads": (1, "torch threads"),
    "stitching": ("switch", "how a new chunk takes over: switch, blend, ensemble, rtc"),
    "replan": (0, "control steps between two inferences; 0: the method's action horizon"),
    "max_age": (0.2, "s, older observations are refused; 0 accepts any age"),
    "max_ahead": (0.5, "s, observations stamped further in the future are refused; 0 accepts any"),
    "traces": ("", "folder for what was consumed in each episode; empty: none"),
}
HEARTBEAT_S = 0.1  # of the wall clock; the executor takes silence for death
RESTART_AFTER = 5  # refused stamps in a row after which the clock is believed and the history starts again


class PolicyNode(Node):
    """Runs one policy bundle."""

    def __init__(self) -> None:
        super().__init__("policy", PARAMETERS)
        self._observations = self._chunks = self._refused = self._backwards = 0
        self._reason = INACTIVE  # else executors would take a node that stands by for a second policy
        self._frame_time: float | None = None
        self._episode = 0
        self._source = f"{self.get_fully_qualified_name()}-{secrets.token_hex(4)}"

    def configure(self) -> None:
        settings = self.settings
        if not settings["policy"]:
            raise ConfigError("the parameter 'policy' must name a bundle folder: -p policy:=runs/NAME/bundle")
        torch.set_num_threads(int(settings["threads"]))
        runner = load_runner(settings["policy"], seed=int(settings["seed"]), backend=settings["backend"])
        self._contract = runner.contract
        bindings = load_bindings(self._contract, settings["bindings"])
        check_publishers(bindings, self._offered(bindings))
        replan = int(settings["replan"]) or runner.action_horizon
        if not 1 <= replan <= runner.horizon:
            raise ConfigError(f"replan={replan} is outside 1..{runner.horizon}, the horizon of this policy")
        runner.warm_up()
        step = 1.0 / self._contract.rate
        self._method = runner.policy.name
        self._names = action_names(self._contract.action.names, self._contract.action.size)
        self._aligner = Aligner(self._contract.observations, step)
        self._loop = InferenceLoop(
            runner,
            ChunkBuffer(self._contract.action.size, self._contract.hash()),
            stitcher_by_name(settings["stitching"], self._contract.action),
            step,
            replan,
            self._publish,
            self._fault,
            self.now,
            Path(settings["traces"]) if settings["traces"] else None,
        )
        self._chunk_publisher = self.create_publisher(ActionChunk, "chunk", qos.CHUNK_WRITER)
        self._status_publisher = self.create_publisher(PolicyStatus, "policy_status", qos.STATUS)
        self._inputs = [
            self.create_subscription(
                binding.source.message,
                binding.topic,
                functools.partial(self._receive, binding),
                qos.reader(binding.type_name),
            )
            for binding in bindings.values()
        ]
        self._service = self.create_service(ResetEpisode, "~/reset", self._reset)
        self._heartbeat = self.create_timer(HEARTBEAT_S, self._beat)

    def activate(self) -> None:
        self._episode = int(self.settings["episode"])
        self._aligner.reset()
        self._reason = ""
        self._frame_time = None
        self._loop.start(self._episode)
        self._publish_status()

    def deactivate(self) -> None:
        if not self._loop.stop():
            self.get_logger().error("the network did not return within 10 s; its thread is abandoned")
        self._reason = INACTIVE
        self._publish_status()

    def cleanup(self) -> None:
        if not hasattr(self, "_inputs"):
            return
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self.destroy_publisher(self._chunk_publisher)
        self.destroy_publisher(self._status_publisher)
        self.destroy_service(self._service)
        self.destroy_timer(self._heartbeat)
        del self._inputs, self._loop

    # In the executor thread -------------------------------------------------------------------------------------

    def _receive(self, binding: Binding, message: Any) -> None:
        if not self.active:
            return
        self._observations += 1
        try:
            time, value = binding.read(message)
            self._check_stamp(binding.key, time)
            frame = self._aligner.push(binding.key, time, value)
        except (ContractError, RefusedError) as error:
            self._refuse(str(error), backwards=isinstance(error, BackwardsError))
            return
        self._backwards = 0
        if frame is not None:
            self._frame_time = frame.time
            self._loop.push(frame)

    def _beat(self) -> None:
        """Say that the node lives, and whether it lacks something to think about."""
        if self.active and not self._reason and self._frame_time is not None and self.settings["max_age"]:
            silence = self.now() - self._frame_time
            if silence > self.settings["max_age"] + 2.0 / self._contract.rate:
                key, _ = self._aligner.oldest()
                self._loop.hurry()
                self._fault(f"no complete observation for {silence:.2f} s, waiting for '{key}'")
                return
        self._publish_status()

    def _check_stamp(self, key: str, time: float) -> None:
        now = self.now()
        if now == 0.0:  # simulated time that has not begun
            return
        max_age, max_ahead = self.settings["max_age"], self.settings["max_ahead"]
        if max_age and now - time > max_age:
            raise RefusedError(f"'{key}' is {now - time:.3f} s old, at most {max_age:g} s are accepted")
        if max_ahead and time - now > max_ahead:
            raise RefusedError(f"'{key}' is stamped {time - now:.3f} s in the future")

    def _refuse(self, reason: str, backwards: bool) -> None:
        self._refused += 1
        self._backwards = self._backwards + 1 if backwards else 0
        if self._backwards >= RESTART_AFTER:
            self._backwards = 0
            self._aligner.reset()
            self._loop.reset(self._episode)
            reason += "; the history starts again"
        self._loop.hurry()
        self._fault(reason)

    def _reset(self, request: ResetEpisode.Request, response: ResetEpisode.Response) -> ResetEpisode.Response:
        response.stamp = self.get_clock().now().to_msg()
        if not self.active:
            response.success, response.message = False, f"the policy node is not active. {self.error}".strip()
            return response
        self._episode = request.seed
        self._reason = ""
        self._frame_time = None
        self._aligner.reset()
        self._loop.reset(request.seed)
        self._publish_status()
        response.success = True
        return response

    def _offered(self, bindings: dict[str, Binding]) -> dict[str, list[str]]:
        types = dict(self.get_topic_names_and_types())
        return {b.topic: types.get(self.resolve_topic_name(b.topic), []) for b in bindings.values()}

    # From the inference thread ----------------------------------------------------------------------------------

    def _publish(self, chunk: Chunk, episode: int, duration: float) -> None:
        self._chunk_publisher.publish(chunk_to_message(chunk, self._names, episode, duration, self._source))
        self._chunks += 1
        if self._reason:
            self._reason = ""
            self._publish_status()

    def _fault(self, reason: str) -> None:
        """Say at once why no chunk comes: the executor holds on it."""
        self._reason = reason
        self.get_logger().warning(reason, throttle_duration_sec=1.0)
        self._publish_status()

    def _publish_status(self) -> None:
        durations = np.array(self._loop.durations or [0.0])
        message = PolicyStatus(
            method=self._method,
            task=self._contract.task,
            contract_hash=self._contract.hash(),
            episode=self._episode,
            source=self._source,
            observations=self._observations,
            chunks=self._chunks,
            refused=self._refused,
            reason=self._reason,
            inference_s=float(durations[-1]),
            inference_p50_s=float(np.median(durations)),
            inference_p99_s=float(np.quantile(durations, 0.99)),
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status_publisher.publish(message)

    def diagnose(self) -> tuple[int, str, dict[str, Any]]:
        level = DiagnosticStatus.WARN if self._reason else DiagnosticStatus.OK
        values = {"observations": self._observations, "chunks": self._chunks, "refused": self._refused}
        return self.level(level), self._reason or ("active" if self.active else INACTIVE), values


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: python -m diffbot_ros.policy, or ros2 run diffbot_ros policy."""
    return run(PolicyNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
