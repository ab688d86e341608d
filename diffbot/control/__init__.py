"""What runs at control rate: policy runner, chunk buffer, stitching, limits, latency. Knows no ROS and no simulator."""

from diffbot.control.chunk import Chunk, ChunkBuffer
from diffbot.control.controller import Command, Controller
from diffbot.control.latency import DelayEstimate, Latency
from diffbot.control.limits import Limits
from diffbot.control.loop import ControlLoop
from diffbot.control.runner import PolicyRunner
from diffbot.control.space import ActionSpace
from diffbot.control.stitch import CommittedPrefix, stitcher_by_name

__all__ = [
    "ActionSpace",
    "Chunk",
    "ChunkBuffer",
    "Command",
    "CommittedPrefix",
    "ControlLoop",
    "Controller",
    "DelayEstimate",
    "Latency",
    "Limits",
    "PolicyRunner",
    "stitcher_by_name",
]
