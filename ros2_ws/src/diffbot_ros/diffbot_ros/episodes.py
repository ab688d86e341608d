"""The client that runs episodes on a graph of nodes: resets them with a seed, waits for the result, keeps the chunks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import rclpy
from diffbot_msgs.msg import ActionChunk, Command, EpisodeResult, PolicyStatus
from diffbot_msgs.srv import ResetEpisode
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from diffbot.control import Chunk
from diffbot.errors import DiffbotError
from diffbot_ros import qos
from diffbot_ros.convert import chunk_from_message
from diffbot_ros.node import INACTIVE
from diffbot_ros.spinning import one_thread

# The policy and the executor forget first, so that the first observation of the simulator meets fresh ones.
ORDER = ("policy", "executor", "simulator")


@dataclass
class Episode:
    """One finished episode. latency, inference: seconds per chunk; latency from observation to chunk as both arrive here."""

    seed: int
    success: bool = False
    steps: int = 0
    held: int = 0
    episode_return: float = 0.0
    wall: float = 0.0
    chunks: dict[int, Chunk] = field(default_factory=dict)
    latency: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    status: dict[int, int] = field(default_factory=dict)


class EpisodeClient:
    """Runs episodes one after another.

    check: called while waiting; raises when a node has died. namespace: of the graph. nodes: those that are reset.
    """

    def __init__(
        self,
        check: Callable[[], None] = lambda: None,
        namespace: str = "",
        nodes: tuple[str, ...] = ORDER,
    ) -> None:
        self.check = check
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("episodes", context=self._context, namespace=namespace)
        self._executor = one_thread(self._context)
        self._executor.add_node(self._node)
        self._services = {name: self._node.create_client(ResetEpisode, f"{name}/reset") for name in nodes}
        self._stop = self._node.create_client(SetBool, "executor/emergency_stop")
        self.episode = Episode(-1)
        self._seen: dict[tuple[int, int], float] = {}
        self._result: EpisodeResult | None = None
        self.policy_status: PolicyStatus | None = None
        subscribe = self._node.create_subscription
        subscribe(ActionChunk, "chunk", self._on_chunk, qos.EVENT)
        subscribe(Command, "command", self._on_command, qos.EVENT)
        subscribe(EpisodeResult, "episode_result", self._on_result, qos.EVENT)
        subscribe(PolicyStatus, "policy_status", self._on_status, qos.STATUS)
        subscribe(Clock, "/clock", self._on_clock, qos.EVENT)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> EpisodeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self, timeout: float = 120.0) -> None:
        """Wait until every node is active. Raises DiffbotError with what is missing."""
        deadline = time.monotonic() + timeout
        while True:
            missing = [name for name, client in self._services.items() if not client.service_is_ready()]
            if not missing and self.policy_status is not None and self.policy_status.reason != INACTIVE:
                return
            self._wait_step(deadline, f"these nodes did not become ready: {', '.join(missing) or 'policy'}")

    def wait_for_subscribers(self, topic: str, count: int, timeout: float = 60.0) -> None:
        """Wait until that many nodes listen to a topic."""
        deadline = time.monotonic() + timeout
        while self._node.count_subscribers(topic) < count:
            self._wait_step(deadline, f"fewer than {count} nodes listen to {topic}")

    def run(self, seed: int, timeout: float = 600.0, stalled: float = 30.0) -> Episode:
        """Run the episode `seed`. Raises DiffbotError when nothing moves for `stalled` s, with the policy's reason."""
        self.begin(seed)
        return self.finish(timeout, stalled)

    def begin(self, seed: int) -> None:
        """Begin the episode `seed`."""
        self._started = time.monotonic()
        self.episode, self._result = Episode(seed), None
        self._seen.clear()
        for name in self._services:
            self._reset(name, seed)
        self._moved = time.monotonic()

    def finish(self, timeout: float = 600.0, stalled: float = 30.0) -> Episode:
        """Wait for the end of the episode that was begun. Raises DiffbotError as `run` does."""
        start, seed = self._started, self.episode.seed
        while self._result is None:
            reason = self.policy_status.reason if self.policy_status is not None else ""
            limit = min(start + timeout, self._moved + stalled)
            self._wait_step(limit, f"episode {seed} stands still. The policy says: {reason or '(nothing)'}")
        episode = self.episode
        episode.wall = time.monotonic() - start
        episode.success, episode.steps = bool(self._result.success), int(self._result.steps)
        episode.held, episode.episode_return = int(self._result.held), float(self._result.episode_return)
        return episode

    def settle(self, seconds: float = 0.5) -> None:
        """Take what is still on its way."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def emergency_stop(self, on: bool) -> None:
        """Engage or release the executor's emergency stop."""
        self._call(self._stop, SetBool.Request(data=on), "executor/emergency_stop")

    def _reset(self, name: str, seed: int) -> None:
        self._call(self._services[name], ResetEpisode.Request(seed=seed), f"{name}/reset")

    def _call(self, client: Any, request: Any, title: str) -> None:
        deadline = time.monotonic() + 90.0
        while not client.service_is_ready():
            self._wait_step(deadline, f"{title} is not there")
        future = client.call_async(request)
        while not future.done():
            self._wait_step(deadline, f"{title} gave no answer")
        response = future.result()
        if response is None or not response.success:
            raise DiffbotError(f"{title} failed: {response.message if response else 'no answer'}")

    def _wait_step(self, deadline: float, complaint: str) -> None:
        if time.monotonic() > deadline:
            raise DiffbotError(complaint)
        self.check()
        with signals_later():
            self._executor.spin_once(timeout_sec=0.1)

    def _on_chunk(self, message: ActionChunk) -> None:
        now = time.monotonic()
        if message.episode != self.episode.seed:
            return
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        if stamp in self._seen:
            self.episode.latency.append(now - self._seen[stamp])
        self.episode.inference.append(float(message.inference_s))
        self.episode.chunks[int(message.id)] = chunk_from_message(message)

    def _on_command(self, message: Command) -> None:
        if message.episode == self.episode.seed:
            self._moved = time.monotonic()
            count = self.episode.status.get(message.status, 0)
            self.episode.status[message.status] = count + 1

    def _on_clock(self, message: Clock) -> None:
        self._seen.setdefault((message.clock.sec, message.clock.nanosec), time.monotonic())

    def _on_result(self, message: EpisodeResult) -> None:
        if message.seed == self.episode.seed:
            self._result = message

    def _on_status(self, message: PolicyStatus) -> None:
        self.policy_status = message


@contextmanager
def signals_later() -> Iterator[None]:
    """SIGINT and SIGTERM reach their handlers at the end of the block.

    A handler that raises while a message is being taken has its exception turned into a RuntimeError by the C++ side.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    # Others (ignored, or handled in C) raise nothing.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(n))]
    before = {number: signal.signal(number, lambda which, frame: came.append(which)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def summary(episodes: list[Episode]) -> list[dict[str, Any]]:
    """One plain row for each episode."""
    return [
        {
            "seed": episode.seed,
            "success": episode.success,
            "steps": episode.steps,
            "held": episode.held,
            "chunks": len(episode.chunks),
            "return": round(episode.episode_return, 4),
            "wall_s": round(episode.wall, 3),
        }
        for episode in episodes
    ]
