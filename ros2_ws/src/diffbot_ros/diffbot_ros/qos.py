"""The quality of service of each kind of topic, chosen once.

Commands and chunks are never latched: a node that joins late must not execute an old motion.
Nobody's publishers are asked for a deadline (an incompatible offer gives no data): staleness is judged by stamps.
"""

from __future__ import annotations

from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy


def _profile(depth: int, reliable: bool, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        depth=depth,
        history=QoSHistoryPolicy.KEEP_LAST,
        reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
    )


CHUNK = _profile(1, reliable=True)
COMMAND = _profile(1, reliable=True)
# Who acts keeps the newest alone; the writers remember more, for those who record.
CHUNK_WRITER = COMMAND_WRITER = _profile(50, reliable=True)
# Low-dimensional observations are published reliably. Other people's topics are read best effort, which hears reliable
# and best-effort robots alike; StampedArray is our own type and always written reliably, so none of it is lost.
OBSERVATION_WRITER = _profile(50, reliable=True)
OBSERVATION_READER = _profile(5, reliable=False)
IMAGE_WRITER = _profile(2, reliable=False)
CLOCK = _profile(1, reliable=True)
EVENT = _profile(100, reliable=True)
STATUS = _profile(1, reliable=True, latched=True)
RECORD = _profile(200, reliable=False)


def reader(type_name: str, record: bool = False) -> QoSProfile:
    """How an observation of this message type is read; `record`: by a node that must not lose what it is late for."""
    if type_name == "diffbot_msgs/msg/StampedArray":
        return _profile(200 if record else 50, reliable=True)
    return RECORD if record else OBSERVATION_READER
