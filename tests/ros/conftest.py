"""A domain of their own for the ROS tests of a worker, small trained policies, and processes that always end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

pytest.importorskip("rclpy")
pytest.importorskip("diffbot_msgs.msg")

from diffbot_ros.isolation import Domain, node_environment

from benchmarks._point_robot import point_bundle, point_robot


@pytest.fixture(scope="session")
def ros_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of node processes; this process is in the same domain."""
    patch = pytest.MonkeyPatch()
    with Domain() as domain:
        environment = node_environment(domain.id, tmp_path_factory.mktemp("ros_log"))
        environment["OMP_NUM_THREADS"] = "1"
        for name, value in environment.items():
            if name.startswith(("ROS_", "FASTRTPS_", "RCUTILS_", "HOME")):
                patch.setenv(name, value)
        yield environment
        patch.undo()


@pytest.fixture(scope="session")
def point_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle of a policy that leads a point to its goal, at 20 Hz."""
    return point_bundle(tmp_path_factory.mktemp("point"))


@pytest.fixture(scope="session")
def point_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Robot profile of the point, with limits."""
    return point_robot(tmp_path_factory.mktemp("robot"))
