"""Which topic and message field each observation of the contract comes from: a YAML file, checked before use.

    observations:
      joint_pos: {topic: joint_states, type: sensor_msgs/msg/JointState, field: position, names: [joint1, joint2]}
      wrist_image: {topic: camera/image_raw, type: sensor_msgs/msg/Image}

A key that the file does not name comes from the topic `observation/<key>`: a StampedArray, or an Image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from diffbot.data.contract import Contract, Field
from diffbot.errors import ConfigError, ContractError, unknown
from diffbot_ros.convert import seconds
from diffbot_ros.fields import SOURCES, Source

ENTRIES = ("topic", "type", "field", "names")


@dataclass(frozen=True)
class Binding:
    """One observation key bound to one field of one topic."""

    key: str
    field: Field
    topic: str
    type_name: str
    source: Source
    names: tuple[str, ...]

    def read(self, message: Any) -> tuple[float, np.ndarray]:
        """Stamp in seconds and the value in the contract's shape and dtype.

        Raises ContractError when the message does not hold what the contract says.
        """
        value = self.source.read(message, self.names)
        unit = getattr(message, "unit", "")
        if unit and self.field.unit and unit != self.field.unit:
            raise ContractError(
                f"'{self.key}' comes in '{unit}' on {self.topic}, the contract says '{self.field.unit}'"
            )
        if self.field.kind == "state":
            if value.size != self.field.size:
                raise ContractError(
                    f"'{self.key}' has {value.size} values on {self.topic}, the contract's shape is {self.field.shape}"
                )
            value = value.reshape(self.field.shape).astype(self.field.dtype)
        self.field.check(self.key, value)
        return seconds(message.header.stamp), value


def load_bindings(contract: Contract, path: str | Path = "") -> dict[str, Binding]:
    """Bindings of every key of `contract`. Raises ConfigError or ContractError that names the wrong entry."""
    table: Mapping[str, Any] = {}
    if path:
        try:
            document = yaml.safe_load(Path(path).read_text()) or {}
        except OSError as error:
            raise ConfigError(f"cannot read the topic bindings {path}: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {error}") from error
        if not isinstance(document, dict) or not isinstance(document.get("observations"), dict):
            raise ConfigError(f"{path} needs a mapping 'observations' from contract keys to topics")
        table = document["observations"]
    for key in table:
        contract.field(key)
    return {key: _bind(key, field, table.get(key)) for key, field in contract.observations.items()}


def _bind(key: str, field: Field, entry: Any) -> Binding:
    if entry is None:
        entry = {"topic": f"observation/{key}"}
    if not isinstance(entry, dict) or "topic" not in entry:
        raise ConfigError(f"the binding of '{key}' needs at least 'topic'; entries: {', '.join(ENTRIES)}")
    for name in entry:
        if name not in ENTRIES:
            raise unknown(f"entry of the binding of '{key}'", str(name), ENTRIES)
    default = "sensor_msgs/msg/Image" if field.kind == "image" else "diffbot_msgs/msg/StampedArray"
    type_name = str(entry.get("type", default))
    if type_name not in SOURCES:
        raise unknown(f"message type of '{key}'", type_name, SOURCES)
    choices = SOURCES[type_name]
    if (type_name == "sensor_msgs/msg/Image") != (field.kind == "image"):
        raise ContractError(f"'{key}' is {_article(field.kind)} in the contract, {type_name} cannot carry it")
    name = str(entry.get("field", next(iter(choices))))
    if name not in choices:
        raise unknown(f"field of {type_name} for '{key}'", name, choices)
    source = choices[name]
    if source.unit and field.unit and source.unit != field.unit:
        raise ContractError(
            f"'{key}' is in '{field.unit}' in the contract, {type_name}.{name} is in '{source.unit}'"
        )
    names = tuple(entry.get("names", field.names))
    if names and len(names) != field.size:
        raise ContractError(
            f"the binding of '{key}' names {len(names)} entries, the contract has {field.size}"
        )
    return Binding(key, field, str(entry["topic"]), type_name, source, names)


def check_publishers(bindings: Mapping[str, Binding], offered: Mapping[str, list[str]]) -> None:
    """Raise ContractError when a topic is already published with another type.

    offered: type names by topic, as the graph shows them now; topics without publishers are not judged.
    """
    for binding in bindings.values():
        types = offered.get(binding.topic, [])
        if types and binding.type_name not in types:
            raise ContractError(
                f"'{binding.key}' is bound to {binding.topic} as {binding.type_name}, "
                f"but that topic carries {', '.join(types)}"
            )


def _article(kind: str) -> str:
    return "an image" if kind == "image" else "a state vector"
