"""Bindings of contract keys to topics: refused by name before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffbot_msgs.msg import StampedArray
from diffbot_ros.bindings import check_publishers, load_bindings
from diffbot_ros.fields import to_message
from sensor_msgs.msg import JointState

from diffbot.data.contract import Action, Contract, Field
from diffbot.errors import ConfigError, ContractError, DiffbotError

CONTRACT = Contract(
    {
        "joint_pos": Field((2,), unit="rad", names=("elbow", "wrist")),
        "camera_image": Field((4, 6, 3), dtype="uint8", kind="image"),
    },
    Action((2,)),
    rate=20.0,
)


def bindings(tmp_path: Path, text: str):
    path = tmp_path / "topics.yaml"
    path.write_text(text)
    return load_bindings(CONTRACT, path)


def test_defaults_round_trip() -> None:
    bound = load_bindings(CONTRACT)
    values = {
        "joint_pos": np.array([0.1, -0.2], np.float32),
        "camera_image": np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8),
    }
    for key, value in values.items():
        time, read = bound[key].read(to_message(CONTRACT.observations[key], value, 12.5))
        assert time == 12.5
        assert read.dtype == value.dtype
        np.testing.assert_array_equal(read, value)


def test_joints_are_taken_by_name(tmp_path: Path) -> None:
    text = "observations:\n  joint_pos: {topic: joint_states, type: sensor_msgs/msg/JointState}\n"
    binding = bindings(tmp_path, text)["joint_pos"]
    message = JointState(name=["wrist", "base", "elbow"], position=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(binding.read(message)[1], np.float32([3.0, 1.0]))
    with pytest.raises(ContractError, match="joint 'elbow' is not in the message; it has: wrist, base"):
        binding.read(JointState(name=["wrist", "base"], position=[1.0, 2.0]))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("joint_poss: {topic: t}", "Did you mean 'joint_pos'"),
        (
            "joint_pos: {topic: t, type: sensor_msgs/msg/JointStates}",
            "Did you mean 'sensor_msgs/msg/JointState'",
        ),
        ("joint_pos: {topic: t, type: sensor_msgs/msg/JointState, field: velocity}", "'rad'.*'rad/s'"),
        (
            "joint_pos: {topic: t, type: sensor_msgs/msg/JointState, field: positions}",
            "Did you mean 'position'",
        ),
        ("joint_pos: {topic: t, names: [a]}", "names 1 entries"),
        ("joint_pos: {topic: t, type: sensor_msgs/msg/Image}", "is a state vector"),
        ("camera_image: {topic: t, type: sensor_msgs/msg/JointState}", "is an image"),
        ("joint_pos: {type: sensor_msgs/msg/JointState}", "needs at least 'topic'"),
        ("joint_pos: {topic: t, filed: x}", "Did you mean 'field'"),
    ],
)
def test_wrong_entries_are_refused_by_name(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(DiffbotError, match=message):
        bindings(tmp_path, f"observations:\n  {entry}\n")


def test_files_that_are_no_bindings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_bindings(CONTRACT, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="not YAML"):
        bindings(tmp_path, "observations: {")
    with pytest.raises(ConfigError, match="mapping 'observations'"):
        bindings(tmp_path, "- joint_pos")


def test_a_topic_that_carries_another_type_is_refused() -> None:
    bound = load_bindings(CONTRACT)
    check_publishers(bound, {"observation/joint_pos": []})
    with pytest.raises(
        ContractError, match=r"'joint_pos' is bound to observation/joint_pos as .* carries std_msgs"
    ):
        check_publishers(bound, {"observation/joint_pos": ["std_msgs/msg/Float64MultiArray"]})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (StampedArray(values=[1.0, float("nan")]), "1 values that are NaN"),
        (StampedArray(values=[1.0, 2.0, 3.0]), "has 3 values .* shape is"),
        (StampedArray(values=[1.0, 2.0], unit="deg"), "comes in 'deg'"),
        (StampedArray(values=[1.0, 2.0], names=["wrist", "elbow"]), "entries are named"),
    ],
)
def test_wrong_values_are_refused(message: StampedArray, expected: str) -> None:
    with pytest.raises(ContractError, match=expected):
        load_bindings(CONTRACT)["joint_pos"].read(message)
