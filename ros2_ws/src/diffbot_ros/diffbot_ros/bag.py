"""Writing MCAP bags without a ROS installation: serialized messages as they come. diffbot.data.bag reads them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffbot_msgs
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from diffbot.errors import DataError


def type_name(message: type) -> str:
    """ "package/msg/Type" of a message class."""
    return f"{message.__module__.split('.')[0]}/msg/{message.__name__}"


def typestore() -> Any:
    """Jazzy's message types and those of diffbot_msgs, from the definitions that are installed with it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    here = Path(diffbot_msgs.__file__).resolve()
    folder = next(
        (p / "share/diffbot_msgs/msg" for p in here.parents if (p / "share/diffbot_msgs/msg").is_dir()), None
    )
    if folder is None:
        raise DataError(f"the message definitions of diffbot_msgs are not installed beside {here.parent}")
    types: dict[str, Any] = {}
    for path in sorted(folder.glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"diffbot_msgs/msg/{path.stem}"))
    store.register(types)
    return store


class BagWriter:
    """Writes CDR bytes of named topics into an MCAP bag. Raises DataError when the folder exists already.

    topics: message class of each topic.
    """

    def __init__(self, path: Path, topics: Mapping[str, type]) -> None:
        if path.exists():
            raise DataError(f"the bag {path} exists already; choose another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        store = typestore()
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections = {
            topic: self._writer.add_connection(topic, type_name(message), typestore=store)
            for topic, message in topics.items()
        }
        self.count = 0

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        """Append one message that came at `time_ns`."""
        self._writer.write(self._connections[topic], time_ns, data)
        self.count += 1

    def close(self) -> None:
        """Complete the bag."""
        self._writer.close()
