"""The only way between two ROS domains: observations there, chunks and status back. What is done to it is done to a network.

    python -m benchmarks._fault_bridge DOMAIN KEY...

It joins the domain of the environment to DOMAIN and forwards messages as they stand, byte for byte.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import rclpy
from diffbot_msgs.msg import ActionChunk, PolicyStatus, StampedArray
from diffbot_ros import qos
from diffbot_ros.node import PARENT_VARIABLE
from rclpy.executors import SingleThreadedExecutor


def main(arguments: Sequence[str]) -> None:
    """Forward until the parent is gone."""
    far, *keys = arguments
    parent = os.environ[PARENT_VARIABLE]
    contexts = [rclpy.Context(), rclpy.Context()]
    rclpy.init(context=contexts[0])
    rclpy.init(context=contexts[1], domain_id=int(far))
    near_node, far_node = (rclpy.create_node("bridge", context=context) for context in contexts)
    executors = []
    for context, node in zip(contexts, (near_node, far_node), strict=True):
        executors.append(SingleThreadedExecutor(context=context))
        executors[-1].add_node(node)
    for key in keys:
        _forward(near_node, far_node, StampedArray, f"observation/{key}", qos.OBSERVATION_WRITER)
    _forward(far_node, near_node, ActionChunk, "chunk", qos.CHUNK_WRITER)
    _forward(far_node, near_node, PolicyStatus, "policy_status", qos.STATUS)
    while str(os.getppid()) == parent:
        for executor in executors:
            executor.spin_once(timeout_sec=0.001)


def _forward(source: Any, target: Any, kind: type, topic: str, profile: Any) -> None:
    publisher = target.create_publisher(kind, topic, profile)
    source.create_subscription(kind, topic, publisher.publish, profile, raw=True)


if __name__ == "__main__":
    main(sys.argv[1:])
