"""ROS 2 bags (MCAP or SQLite), read without ROS: the messages of chosen topics, in the order in which they came.

Message types come from the bag, which holds the definitions of its own, and are Jazzy's where it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffbot.errors import DataError, require


@dataclass(frozen=True)
class BagMessage:
    """One message. kind: "package/msg/Type"; time_ns: when it came; value: its fields as attributes, arrays as numpy."""

    topic: str
    kind: str
    time_ns: int
    value: Any

    @property
    def stamp(self) -> float:
        """Seconds of its header, or of its arrival where it has none."""
        header = getattr(self.value, "header", None)
        return 1e-9 * self.time_ns if header is None else header.stamp.sec + 1e-9 * header.stamp.nanosec


class Bag:
    """An opened bag: a context manager. Raises DataError for what is no bag.

    topics: kind of each topic's messages.
    """

    def __init__(self, path: Path) -> None:
        highlevel = require("rosbags.highlevel", "formats", "reading bags")
        types = require("rosbags.typesys", "formats", "reading bags")
        self._open = ExitStack()
        try:
            self._reader = self._open.enter_context(
                highlevel.AnyReader([path], default_typestore=types.get_typestore(types.Stores.ROS2_JAZZY))
            )
        except highlevel.AnyReaderError as error:
            raise DataError(f"{path} is not a readable bag: {error}") from error
        self.topics: dict[str, str] = {c.topic: c.msgtype for c in self._reader.connections}

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Messages of `topics`, of all by default."""
        wanted = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return  # the reader takes an empty list for all of them
        for connection, time_ns, raw in self._reader.messages(wanted):
            value = self._reader.deserialize(raw, connection.msgtype)
            yield BagMessage(connection.topic, connection.msgtype, time_ns, value)
