"""ROS 2 bags (MCAP or SQLite), read without ROS: topics by a bindings YAML, resampled onto one clock by header stamps.

    rate: 20                      # Hz of the dataset
    task: my/arm
    gap: 1.0                      # s without a message of some observation that ends an episode
    observations:
      joint_pos: {topic: /joint_states, field: position, names: [joint1, joint2], unit: rad}
      eef_pos: {topic: /eef_pose, field: pose.position, unit: m, frame: base}
      front_image: {topic: /camera/image_raw}
    action: {topic: /commands, field: position, meaning: absolute, space: joint, unit: rad}

A step at time t holds of each observation the newest message stamped at or before t, and the last command stamped within
[t, t + 1 / rate), or the one before it. Messages without a header count by their time in the bag.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from diffbot.data.bag import Bag
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.formats.base import Format, ImportOptions, Source
from diffbot.errors import ConfigError, DataError, require, unknown

EARLY = 1e-3
COLORS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


@dataclass(frozen=True)
class Stream:
    """The messages of one key: stamps float64 [n] in s, ascending, and values [n, ...]."""

    stamps: np.ndarray
    values: np.ndarray


def detect(path: Path) -> bool:
    """A bag folder (metadata.yaml beside .mcap or .db3 files) or a single .mcap file."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() and any(path.glob("*.mcap")) | any(path.glob("*.db3"))
    return path.suffix == ".mcap"


def read(path: Path, options: ImportOptions) -> Source:
    """Read a bag. Raises ConfigError for bindings that do not fit it: topics and joints are named with what there is."""
    if not options.bindings:
        raise ConfigError(
            "a bag needs bindings of keys to topics: bindings=FILE.yaml (docs/formats.md shows one)"
        )
    bindings = _bindings(Path(options.bindings))
    wanted = {**bindings["observations"], "action": bindings["action"]}
    streams = _streams(path, wanted)
    rate = float(options.rate or bindings["rate"])
    observations = {
        key: _field(bindings["observations"][key], streams[key]) for key in bindings["observations"]
    }
    action = _field(bindings["action"], streams["action"])
    contract = Contract(
        observations,
        Action(
            action.shape,
            action.dtype,
            action.unit,
            action.frame,
            names=action.names,
            meaning=bindings["action"].get("meaning", options.meaning),
            space=bindings["action"].get("space", options.space),
        ),
        rate,
        options.task or bindings.get("task", ""),
    )
    episodes = list(_episodes(streams, rate, float(bindings.get("gap", 1.0))))
    if not episodes:
        raise DataError(f"{path}: at no time are all bound topics there, so there is no episode")
    return Source(contract, len(episodes), lambda: iter(episodes), {"bindings": bindings})


def _bindings(path: Path) -> dict[str, Any]:
    try:
        bindings = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"bindings '{path}' cannot be read: {error}") from error
    if not isinstance(bindings, dict):
        raise ConfigError(f"bindings '{path}' is not a mapping")
    for name in ("rate", "observations", "action"):
        if name not in bindings:
            raise ConfigError(f"bindings '{path}' lacks '{name}'; it needs rate, observations and action")
    return bindings


def _streams(path: Path, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Stream]:
    found: dict[str, list[tuple[float, np.ndarray]]] = {key: [] for key in wanted}
    with Bag(path) as bag:
        for key, binding in wanted.items():
            if binding.get("topic") not in bag.topics:
                raise unknown(f"topic of '{key}'", str(binding.get("topic")), bag.topics)
        for message in bag.messages({binding["topic"] for binding in wanted.values()}):
            for key, binding in wanted.items():
                if binding["topic"] == message.topic:
                    value = _value(key, binding, message.value, message.kind)
                    found[key].append((message.stamp, value))
    return {key: _stream(key, pairs) for key, pairs in found.items()}


def _stream(key: str, pairs: list[tuple[float, np.ndarray]]) -> Stream:
    if not pairs:
        raise DataError(f"the topic of '{key}' has no messages")
    if len({value.shape for _, value in pairs}) != 1:
        raise DataError(f"messages of '{key}' differ in shape: {sorted({value.shape for _, value in pairs})}")
    order = np.argsort([stamp for stamp, _ in pairs], kind="stable")
    stamps = np.array([pairs[i][0] for i in order])
    return Stream(stamps, np.stack([pairs[i][1] for i in order]))


def _value(key: str, binding: Mapping[str, Any], message: Any, kind: str) -> np.ndarray:
    if kind == "sensor_msgs/msg/Image":
        return _image(key, message)
    if kind == "sensor_msgs/msg/CompressedImage":
        with require("PIL.Image", "formats").open(
            io.BytesIO(bytes(message.data)), formats=("JPEG", "PNG")
        ) as file:
            return np.asarray(file.convert("RGB"))
    node = message
    for part in str(binding.get("field", "data")).split("."):
        if not hasattr(node, part):
            names = [name for name in vars(node) if not name.startswith("_")]
            raise unknown(f"field of '{key}' in {kind}", part, names)
        node = getattr(node, part)
    value = _numbers(key, node)
    joints = list(getattr(message, "name", []) or [])
    if binding.get("names") and joints and len(joints) == len(value):
        for name in binding["names"]:
            if name not in joints:
                raise unknown(f"joint of '{key}'", name, joints)
        value = value[[joints.index(name) for name in binding["names"]]]
    return value.astype(np.float32)


def _numbers(key: str, node: Any) -> np.ndarray:
    """Arrays, numbers, and vectors or quaternions with x, y, z (and w)."""
    if hasattr(node, "x"):
        return np.array([getattr(node, axis) for axis in "xyzw" if hasattr(node, axis)], np.float64)
    value = np.atleast_1d(np.asarray(node))
    if value.dtype.kind not in "fiub" or value.ndim != 1:
        raise ConfigError(f"the field bound to '{key}' holds no numbers; name one that does: field=...")
    return value.astype(np.float64)


def _image(key: str, message: Any) -> np.ndarray:
    if message.encoding not in COLORS:
        raise DataError(f"'{key}' has image encoding '{message.encoding}'; read are {', '.join(COLORS)}")
    channels = COLORS[message.encoding]
    rows = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.step)
    image = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    return image[..., ::-1].copy() if message.encoding == "bgr8" else image


def _field(binding: Mapping[str, Any], stream: Stream) -> Field:
    image = stream.values.dtype == np.uint8
    return Field(
        stream.values.shape[1:],
        str(stream.values.dtype),
        str(binding.get("unit", "")),
        str(binding.get("frame", "")),
        names=tuple(binding.get("names", ())),
        kind="image" if image else "state",
    )


def _episodes(
    streams: Mapping[str, Stream], rate: float, gap: float
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """Steps on the grid of the slowest common start, one episode for each stretch without a gap."""
    observed = {key: stream for key, stream in streams.items() if key != "action"}
    start = max(stream.stamps[0] for stream in observed.values())
    end = min(stream.stamps[-1] for stream in observed.values())
    period = 1.0 / rate
    grid = start + period * np.arange(int(np.floor((end - start) * rate + EARLY)) + 1)
    rows = {
        k: np.searchsorted(s.stamps, grid + EARLY * period, side="right") - 1 for k, s in observed.items()
    }
    commands = streams["action"].stamps
    rows["action"] = np.searchsorted(commands, grid + (1 - EARLY) * period, side="left") - 1
    ages = np.stack([grid - observed[key].stamps[rows[key]] for key in observed])
    usable = (ages <= gap).all(0) & (rows["action"] >= 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], usable.astype(int), [0]])))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        arrays = {key: streams[key].values[index[first:last]] for key, index in rows.items()}
        arrays["time"] = grid[first:last] - grid[first]
        yield arrays, {"start": float(grid[first])}


FORMAT = Format("mcap", "ROS 2 bags (MCAP, SQLite) through a bindings YAML", detect, read)
