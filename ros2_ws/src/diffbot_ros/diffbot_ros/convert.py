"""Messages of diffbot_msgs from and to the plain objects of diffbot.control. Nothing is rounded on the way."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diffbot_msgs.msg import ActionChunk
from sensor_msgs.msg import Image

from diffbot.control import Chunk
from diffbot.errors import ContractError

NANOSECONDS = 1_000_000_000


def seconds(stamp: Time | Duration) -> float:
    """Seconds of a message stamp or duration."""
    return float(stamp.sec + stamp.nanosec / NANOSECONDS)


def to_time(value: float) -> Time:
    """Stamp of `value` seconds, rounded to a nanosecond."""
    whole, rest = divmod(round(value * NANOSECONDS), NANOSECONDS)
    return Time(sec=whole, nanosec=rest)


def to_duration(value: float) -> Duration:
    """Duration of `value` seconds >= 0, rounded to a nanosecond."""
    whole, rest = divmod(round(value * NANOSECONDS), NANOSECONDS)
    return Duration(sec=whole, nanosec=rest)


def chunk_to_message(
    chunk: Chunk, names: tuple[str, ...], episode: int, inference_s: float = 0.0, source: str = ""
) -> ActionChunk:
    """ActionChunk of a chunk [steps, len(names)]; `source`: which running policy made it."""
    actions = np.ascontiguousarray(chunk.actions, dtype=np.float32)
    if actions.shape[1] != len(names):
        raise ContractError(f"a chunk has {actions.shape[1]} action entries, names say {len(names)}")
    message = ActionChunk(
        contract_hash=chunk.contract_hash,
        id=int(chunk.id),
        episode=int(episode),
        source=source,
        step=to_duration(chunk.step),
        names=list(names),
        valid=np.asarray(chunk.valid, bool).tolist(),
        inference_s=float(inference_s),
    )
    message.header.stamp = to_time(chunk.start)
    message.values = array.array("f", actions.tobytes())
    return message


def chunk_from_message(message: ActionChunk) -> Chunk:
    """Chunk of a message. Raises ContractError when its sizes contradict each other."""
    steps, width = len(message.valid), len(message.names)
    values = np.frombuffer(message.values, dtype=np.float32).copy()
    if steps < 1 or width < 1 or values.size != steps * width:
        raise ContractError(
            f"chunk {message.id} holds {values.size} values for {steps} steps of {width} named entries"
        )
    start = seconds(message.header.stamp)
    return Chunk(
        actions=values.reshape(steps, width),
        start=start,
        step=seconds(message.step),
        id=int(message.id),
        contract_hash=message.contract_hash,
        valid=np.asarray(message.valid, dtype=bool),
        observation_time=start,
    )


def image_to_message(image: np.ndarray, time: float, frame: str = "") -> Image:
    """sensor_msgs/Image (rgb8 or mono8) of a uint8 array [height, width, 3 or 1]."""
    height, width, channels = image.shape
    message = Image(height=height, width=width, step=width * channels)
    message.encoding = {3: "rgb8", 1: "mono8"}[channels]
    message.header.stamp = to_time(time)
    message.header.frame_id = frame
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).data.cast("B"))  # a list would take 20 ms
    message.data = data
    return message


def action_names(names: tuple[str, ...], size: int) -> tuple[str, ...]:
    """The contract's labels of the action's entries, or a0, a1, … when it has none."""
    return names or tuple(f"a{i}" for i in range(size))
