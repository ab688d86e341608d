"""From observations and commands, live or out of a bag, to the arrays of one episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diffbot_msgs.msg import Command

from diffbot.data.bag import Bag
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import ContractError
from diffbot_ros.align import Aligner, Frame, RefusedError
from diffbot_ros.bindings import Binding
from diffbot_ros.convert import seconds

COMMAND, RESULT = "diffbot_msgs/msg/Command", "diffbot_msgs/msg/EpisodeResult"


@dataclass
class Assembler:
    """Collects one episode at a time. refused counts samples that did not fit the contract.

    A command belongs to the newest frame that is not newer than it; a frame without a command is left out. Of several
    commands for one frame the last one counts, as on the robot.
    """

    contract: Contract
    bindings: Mapping[str, Binding]
    refused: int = 0
    reason: str = ""
    _frames: list[Frame] = field(default_factory=list)
    _actions: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._aligner = Aligner(self.contract.observations, 1.0 / self.contract.rate)

    def observe(self, key: str, message: Any) -> None:
        """Take an observation message."""
        try:
            time, value = self.bindings[key].read(message)
            frame = self._aligner.push(key, time, value)
        except (ContractError, RefusedError) as error:
            self.refused += 1
            self.reason = str(error)
            return
        if frame is not None:
            self._frames.append(frame)

    def command(self, message: Command) -> None:
        """Take a command message; commands before the first chunk moved nothing and are left out."""
        if message.reason == "no_chunk" or not self._frames:
            return
        time = seconds(message.header.stamp)
        tolerance = 1e-3 / self.contract.rate
        index = next(
            (i for i in range(len(self._frames) - 1, -1, -1) if self._frames[i].time <= time + tolerance),
            None,
        )
        if index is not None:
            self._actions[index] = np.frombuffer(message.values, np.float32).copy()

    def finish(self) -> dict[str, np.ndarray] | None:
        """The arrays of the episode [T, ...] by key, with action and time; None when nothing was commanded."""
        steps = sorted(self._actions)
        frames, actions = self._frames, self._actions
        self._frames, self._actions = [], {}
        self._aligner.reset()
        if not steps:
            return None
        arrays = {key: np.stack([frames[i].values[key] for i in steps]) for key in self.contract.observations}
        arrays["action"] = np.stack([actions[i] for i in steps]).astype(self.contract.action.dtype)
        arrays["time"] = np.array([frames[i].time for i in steps])
        return arrays


def bag_episodes(
    path: Path, contract: Contract, bindings: Mapping[str, Binding]
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """Episodes (arrays, meta) of a bag; each ends with an `episode_result`, the last one also with the bag."""
    assembler = Assembler(contract, bindings)
    keys = {binding.topic.lstrip("/"): key for key, binding in bindings.items()}
    with Bag(path) as bag:
        for message in bag.messages():
            name = message.topic.lstrip("/")
            if name in keys:
                assembler.observe(keys[name], message.value)
            elif message.kind == COMMAND:
                assembler.command(message.value)
            elif message.kind == RESULT:
                arrays = assembler.finish()
                if arrays is not None:
                    result = message.value
                    yield arrays, {"success": bool(result.success), "seed": int(result.seed)}
    arrays = assembler.finish()
    if arrays is not None:
        yield arrays, {"success": False, "seed": -1}


def import_bag(path: Path, contract: Contract, bindings: Mapping[str, Binding], out: Path) -> int:
    """Write the episodes of a bag into a new store; returns how many there were."""
    store = EpisodeStore.create(out, contract, {"source": "bag", "bag": path.name})
    count = 0
    with store.writer() as writer:
        for arrays, meta in bag_episodes(path, contract, bindings):
            writer.append(arrays, meta)
            count += 1
    return count
