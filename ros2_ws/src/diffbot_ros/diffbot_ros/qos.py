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
# Low-dimensional observations are published reliably; a best-effort reader hears reliable and best-effort robots alike.
OBSERVATION_WRITER = _profile(5, reliable=True)
OBSERVATION_READER = _profile(5, reliable=False)
IMAGE_WRITER = _profile(2, reliable=False)
CLOCK = _profile(1, reliable=True)
EVENT = _profile(20, reliable=True)
STATUS = _profile(1, reliable=True, latched=True)
RECORD = _profile(200, reliable=False)
