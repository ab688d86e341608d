"""From observations and commands, live or out of a bag, to the arrays of one episode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diffbot_msgs.msg import Command, EpisodeResult

from diffbot.data.bag import Bag
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import ContractError
from diffbot_ros.align import Aligner, BackwardsError, Frame, RefusedError
from diffbot_ros.bindings import Binding
from diffbot_ros.convert import seconds

GRACE_S = 0.3  # what an episode's result overtook on its way arrives within this time
EARLY = 100  # commands that may overtake the first observation of an episode
UNFINISHED = {"success": False, "seed": -1}
COMMAND, RESULT = "diffbot_msgs/msg/Command", "diffbot_msgs/msg/EpisodeResult"


Episode = tuple[dict[str, np.ndarray], dict[str, Any]]


@dataclass
class Assembler:
    """Collects episodes; what belongs together is told by stamps, since topics overtake one another on their way.

    A command belongs to the newest frame that is not newer than it; a frame without a command is left out. Of several
    commands for one frame the last one counts, as on the robot. refused counts samples that did not fit the contract.
    """

    contract: Contract
    bindings: Mapping[str, Binding]
    refused: int = 0
    reason: str = ""
    _frames: list[Frame] = field(default_factory=list)
    _commands: list[tuple[float, np.ndarray]] = field(default_factory=list)
    _ending: tuple[float, dict[str, Any]] | None = None
    _done: list[Episode] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._aligner = Aligner(self.contract.observations, 1.0 / self.contract.rate)
        self._tolerance = 1e-3 / self.contract.rate

    def observe(self, key: str, message: Any) -> None:
        """Take an observation message."""
        try:
            time, value = self.bindings[key].read(message)
            try:
                frame = self._aligner.push(key, time, value)
            except BackwardsError:
                if self._ending is None:
                    raise
                self.flush()  # the clock starts anew with the next episode
                frame = self._aligner.push(key, time, value)
        except (ContractError, RefusedError) as error:
            self.refused += 1
            self.reason = str(error)
            return
        if frame is not None:
            self._frames.append(frame)

    def command(self, message: Command) -> None:
        """Take a command message; commands before the first chunk moved nothing and are left out."""
        if message.reason != "no_chunk":
            values = np.frombuffer(message.values, np.float32).copy()
            if not self._frames:
                del self._commands[:-EARLY]
            self._commands.append((seconds(message.header.stamp), values))

    def result(self, message: EpisodeResult) -> None:
        """Take the result of the episode. What is stamped before it still belongs there, until the next `flush`."""
        self.flush()
        meta = {"success": bool(message.success), "seed": int(message.seed)}
        self._ending = (seconds(message.header.stamp), meta)

    def flush(self, meta: dict[str, Any] | None = None) -> None:
        """Close the episode whose result has come; with `meta`, which describes it, also one that has none."""
        if self._ending is not None:
            until, described = self._ending
            self._ending = None
            self._close(until, described)
        if meta is not None:
            self._close(math.inf, meta)

    def take(self) -> list[Episode]:
        """The episodes that were closed since the last call: arrays [T, ...] by key with action and time, and meta."""
        done, self._done = self._done, []
        return done

    def _close(self, until: float, meta: dict[str, Any]) -> None:
        frames = [frame for frame in self._frames if frame.time <= until]
        commands = [command for command in self._commands if command[0] <= until + self._tolerance]
        self._frames = self._frames[len(frames) :]
        self._commands = [command for command in self._commands if command[0] > until + self._tolerance]
        if not self._frames:
            self._aligner.reset(until)
        times = np.array([frame.time for frame in frames])
        actions: dict[int, np.ndarray] = {}
        for time, values in sorted(commands, key=lambda command: command[0]):
            index = int(np.searchsorted(times, time + self._tolerance, side="right")) - 1
            if index >= 0:
                actions[index] = values
        steps = sorted(actions)
        if not steps:
            return
        arrays = {key: np.stack([frames[i].values[key] for i in steps]) for key in self.contract.observations}
        arrays["action"] = np.stack([actions[i] for i in steps]).astype(self.contract.action.dtype)
        arrays["time"] = times[steps]
        self._done.append((arrays, meta))


def bag_episodes(path: Path, contract: Contract, bindings: Mapping[str, Binding]) -> Iterator[Episode]:
    """Episodes (arrays, meta) of a bag; each ends with an `episode_result`, the last one also with the bag."""
    assembler = Assembler(contract, bindings)
    keys = {binding.topic.lstrip("/"): key for key, binding in bindings.items()}
    due = math.inf
    with Bag(path) as bag:
        for message in bag.messages():
            if message.time_ns > due:
                assembler.flush()
                due = math.inf
            name = message.topic.lstrip("/")
            if name in keys:
                assembler.observe(keys[name], message.value)
            elif message.kind == COMMAND:
                assembler.command(message.value)
            elif message.kind == RESULT:
                assembler.result(message.value)
                due = message.time_ns + GRACE_S * 1e9
            yield from assembler.take()
    assembler.flush(UNFINISHED)
    yield from assembler.take()


def import_bag(path: Path, contract: Contract, bindings: Mapping[str, Binding], out: Path) -> int:
    """Write the episodes of a bag into a new store; returns how many there were."""
    store = EpisodeStore.create(out, contract, {"source": "bag", "bag": path.name})
    count = 0
    with store.writer() as writer:
        for arrays, meta in bag_episodes(path, contract, bindings):
            writer.append(arrays, meta)
            count += 1
    return count
