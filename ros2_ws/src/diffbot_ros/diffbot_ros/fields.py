"""Reading named numbers and pixels out of standard messages, and writing the two kinds that the simulator publishes."""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffbot_msgs.msg import StampedArray
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import Image, JointState

from diffbot.data.contract import Field
from diffbot.errors import ContractError
from diffbot_ros.convert import image_to_message, to_time

Reader = Callable[[Any, tuple[str, ...]], np.ndarray]


def _joint(field: str) -> Reader:
    def read(message: JointState, names: tuple[str, ...]) -> np.ndarray:
        values = np.frombuffer(getattr(message, field), dtype=np.float64)
        if not names:
            return values.copy()
        place = {name: i for i, name in enumerate(message.name)}
        missing = [name for name in names if name not in place]
        if missing:
            raise ContractError(f"joint '{missing[0]}' is not in the message; it has: {', '.join(place)}")
        if values.size != len(message.name):
            raise ContractError(f"'{field}' has {values.size} values for {len(message.name)} joint names")
        return values[[place[name] for name in names]]

    return read


def _array(message: StampedArray, names: tuple[str, ...]) -> np.ndarray:
    if names and message.names and tuple(message.names) != names:
        raise ContractError(f"entries are named {list(message.names)}, the contract says {list(names)}")
    return np.frombuffer(message.values, dtype=np.float64).copy()


def _xyz(vector: Any) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z])


def _xyzw(quaternion: Any) -> np.ndarray:
    return np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])


def _pose(message: PoseStamped, names: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([_xyz(message.pose.position), _xyzw(message.pose.orientation)])


def _twist(message: TwistStamped, names: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([_xyz(message.twist.linear), _xyz(message.twist.angular)])


def _wrench(message: WrenchStamped, names: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([_xyz(message.wrench.force), _xyz(message.wrench.torque)])


def _image(message: Image, names: tuple[str, ...]) -> np.ndarray:
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1}.get(message.encoding)
    if channels is None:
        raise ContractError(f"image encoding '{message.encoding}' is not one of rgb8, bgr8, mono8")
    row = message.width * channels
    pixels = np.frombuffer(message.data, dtype=np.uint8)
    if message.step < row or pixels.size != message.height * message.step:
        raise ContractError(
            f"an image of {message.height}x{message.width} ({message.encoding}) holds {pixels.size} bytes"
        )
    image = pixels.reshape(message.height, message.step)[:, :row]
    image = image.reshape(message.height, message.width, channels)
    return np.ascontiguousarray(image[..., ::-1] if message.encoding == "bgr8" else image)


@dataclass(frozen=True)
class Source:
    """What one message type offers: its fields, the unit that its definition fixes and how each is read."""

    message: type
    unit: str
    read: Reader


SOURCES: dict[str, dict[str, Source]] = {
    "diffbot_msgs/msg/StampedArray": {"values": Source(StampedArray, "", _array)},
    "sensor_msgs/msg/JointState": {
        "position": Source(JointState, "rad", _joint("position")),
        "velocity": Source(JointState, "rad/s", _joint("velocity")),
        "effort": Source(JointState, "N m", _joint("effort")),
    },
    "geometry_msgs/msg/PoseStamped": {
        "pose": Source(PoseStamped, "", _pose),
        "position": Source(PoseStamped, "m", lambda m, n: _xyz(m.pose.position)),
        "orientation": Source(PoseStamped, "", lambda m, n: _xyzw(m.pose.orientation)),
    },
    "geometry_msgs/msg/TwistStamped": {"twist": Source(TwistStamped, "", _twist)},
    "geometry_msgs/msg/WrenchStamped": {"wrench": Source(WrenchStamped, "", _wrench)},
    "sensor_msgs/msg/Image": {"image": Source(Image, "", _image)},
}


def to_message(field: Field, value: np.ndarray, time: float) -> Any:
    """The message that carries one observation: an Image, or a StampedArray with names and unit."""
    if field.kind == "image":
        return image_to_message(value, time, field.frame)
    message = StampedArray(names=list(field.names), unit=field.unit)
    message.header.stamp = to_time(time)
    message.header.frame_id = field.frame
    message.values = array.array("d", np.asarray(value, dtype=np.float64).ravel().tobytes())
    return message
