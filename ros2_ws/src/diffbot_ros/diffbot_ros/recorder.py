"""The recorder node: topics into an MCAP bag, and straight into an episode store.

Topics in: every observation of the contract, `command`, `chunk`, `episode_result`. An episode ends with
`episode_result`, or by the service `~/end_episode` (std_srvs/SetBool: data says whether it was a success).
What goes wrong while writing (a full disk) ends the recording with a reason in the diagnostics; nothing else stops.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from diffbot_msgs.msg import ActionChunk, Command, EpisodeResult
from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message
from std_srvs.srv import SetBool

from diffbot.control.load import load_contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, DiffbotError
from diffbot_ros import qos
from diffbot_ros.assemble import GRACE_S, UNFINISHED, Assembler
from diffbot_ros.bag import BagWriter
from diffbot_ros.bindings import load_bindings
from diffbot_ros.node import INACTIVE, Node, run

PARAMETERS: dict[str, tuple[Any, str]] = {
    "contract": ("", "policy bundle or contract.yaml that says what is recorded"),
    "bindings": ("", "YAML file from contract keys to topics; empty: observation/<key>"),
    "out": ("runs/recording", "folder for the bag and the episodes"),
    "bag": (True, "write <out>/bag (MCAP)"),
    "episodes": (True, "write <out>/episodes.zarr"),
}


class RecorderNode(Node):
    """Records one robot."""

    def __init__(self) -> None:
        super().__init__("recorder", PARAMETERS)
        self._counts: Counter[str] = Counter()
        self._bag: BagWriter | None = None
        self._store: EpisodeStore | None = None
        self._failure = ""

    def configure(self) -> None:
        settings = self.settings
        if not settings["contract"]:
            raise ConfigError("the parameter 'contract' must name a policy bundle or a contract.yaml")
        contract = load_contract(settings["contract"])
        bindings = load_bindings(contract, settings["bindings"])
        out = Path(settings["out"])
        topics: dict[str, tuple[type, Any]] = {
            binding.topic: (binding.source.message, functools.partial(self._observe, key))
            for key, binding in bindings.items()
        }
        topics |= {
            "command": (Command, self._command),
            "chunk": (ActionChunk, None),
            "episode_result": (EpisodeResult, self._result),
        }
        profiles = {b.topic: qos.reader(b.type_name, record=True) for b in bindings.values()}
        self._assembler = Assembler(contract, bindings)
        if settings["episodes"]:
            path = out / "episodes.zarr"
            self._store = (
                EpisodeStore.open(path, mode="a")
                if path.exists()
                else EpisodeStore.create(path, contract, {"source": "recorder"})
            )
        if settings["bag"]:
            types = {topic: message for topic, (message, _) in topics.items()}
            self._bag = BagWriter(_next_free(out / "bag"), types)
        self._inputs = [
            self.create_subscription(
                message,
                topic,
                functools.partial(self._receive, topic, message, take),
                profiles.get(topic, qos.EVENT),
                raw=True,
            )
            for topic, (message, take) in topics.items()
        ]
        self._service = self.create_service(SetBool, "~/end_episode", self._end)
        self._due = self.create_timer(
            GRACE_S, self._save, autostart=False, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def deactivate(self) -> None:
        self._save(UNFINISHED)

    def cleanup(self) -> None:
        if not hasattr(self, "_inputs"):
            return
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self.destroy_service(self._service)
        self.destroy_timer(self._due)
        if self._bag is not None:
            self._guard(self._bag.close)
            self._bag = None
        del self._inputs

    def _receive(self, topic: str, message_type: type, take: Any, data: bytes) -> None:
        if not self.active:
            return
        self._counts[topic] += 1
        if self._bag is not None:
            arrival = self.get_clock().now().nanoseconds
            self._guard(functools.partial(self._bag.write, topic, arrival, data))
        if take is not None and self._store is not None:
            take(deserialize_message(data, message_type))
            self._write()

    def _observe(self, key: str, message: Any) -> None:
        self._assembler.observe(key, message)

    def _command(self, message: Command) -> None:
        self._assembler.command(message)

    def _result(self, message: EpisodeResult) -> None:
        self._assembler.result(message)
        self._due.reset()

    def _end(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        before = self._counts["episodes"]
        self._save({**UNFINISHED, "success": bool(request.data)})
        response.success = self._counts["episodes"] > before
        response.message = self._failure or (
            "" if response.success else "nothing was commanded in this episode"
        )
        return response

    def _save(self, meta: dict[str, Any] | None = None) -> None:
        self._due.cancel()
        self._assembler.flush(meta)
        self._write()

    def _write(self) -> None:
        episodes, store = self._assembler.take(), self._store
        if not episodes or store is None:
            return

        def append() -> None:
            with store.writer() as writer:
                for arrays, meta in episodes:
                    writer.append(arrays, meta)
                    self._counts["episodes"] += 1

        self._guard(append)

    def _guard(self, write: Any) -> None:
        """Write, or end the recording with the reason; a robot is not stopped by a full disk."""
        try:
            write()
        except (OSError, DiffbotError) as error:
            self._failure = f"recording ended: {error}"
            self.get_logger().error(self._failure)
            self._bag = self._store = None

    def diagnose(self) -> tuple[int, str, dict[str, Any]]:
        values = {**self._counts, "refused": self._assembler.refused if hasattr(self, "_assembler") else 0}
        if self._failure:
            return self.level(DiagnosticStatus.ERROR), self._failure, values
        return self.level(DiagnosticStatus.OK), "recording" if self.active else INACTIVE, values


def _next_free(path: Path) -> Path:
    number = 0
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: python -m diffbot_ros.recorder, or ros2 run diffbot_ros recorder."""
    return run(RecorderNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
