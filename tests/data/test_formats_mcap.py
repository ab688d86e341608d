"""Bags written by rosbags become episodes on one clock, by header stamps and not by arrival."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from diffbot.data.formats.base import ImportOptions, detect_format
from diffbot.data.formats.convert import import_dataset
from diffbot.errors import ConfigError, DiffbotError

STORE = get_typestore(Stores.ROS2_JAZZY)
BINDINGS = {
    "rate": 10,
    "task": "test/arm",
    "observations": {
        "joint_pos": {"topic": "/joint_states", "field": "position", "names": ["b", "a"], "unit": "rad"},
        "front_image": {"topic": "/camera"},
    },
    "action": {"topic": "/command", "field": "position", "meaning": "absolute", "space": "joint"},
}


def write_bag(path: Path, starts: tuple[float, ...] = (100.0,), steps: int = 12) -> None:
    """Joints at 50 Hz, a camera at 10 Hz, commands at 10 Hz; arrival is late and out of order, stamps are exact."""
    types = STORE.types
    time_type, header_type = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    rows = []
    for start in starts:
        for k in range(5 * (steps - 1) + 1):
            t = start + k / 50
            rows.append((t, "/joint_states", np.array([t, -t]), None))
        for k in range(steps):
            t = start + k / 10
            rows.append((t, "/camera", np.full((4, 6, 3), k, np.uint8), None))
            rows.append((t + 0.01, "/command", np.array([10 * t, 20 * t]), None))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {"/joint_states": "sensor_msgs/msg/JointState", "/command": "sensor_msgs/msg/JointState"}
        kinds["/camera"] = "sensor_msgs/msg/Image"
        connections = {
            topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in kinds.items()
        }
        for i, (t, topic, value, _) in enumerate(sorted(rows, key=lambda row: row[0])):
            header = header_type(time_type(int(t), round((t - int(t)) * 1e9)), "base")
            if topic == "/camera":
                message = types[kinds[topic]](header, 4, 6, "bgr8", 0, 18, value.reshape(-1))
            else:
                empty = np.zeros(0)
                message = types[kinds[topic]](header, ["a", "b"], value, empty, empty)
            late = int(1e9 * (t + (0.07 if i % 3 else 0.02)))
            writer.write(connections[topic], late, STORE.serialize_cdr(message, kinds[topic]))


def bindings(path: Path, **changes: object) -> ImportOptions:
    path.write_text(yaml.safe_dump(BINDINGS | changes))
    return ImportOptions(bindings=str(path))


def test_one_clock_by_header_stamps(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag")
    entry = detect_format(tmp_path / "bag")
    store = import_dataset(tmp_path / "bag", tmp_path / "out.zarr", entry, bindings(tmp_path / "b.yaml"))
    episode = store.episode(0)
    t = 100.0 + np.arange(12) / 10
    np.testing.assert_allclose(episode["joint_pos"], np.stack([-t, t], 1), rtol=1e-6)
    np.testing.assert_allclose(episode["action"], np.stack([10 * t, 20 * t], 1), rtol=1e-6)
    assert episode["front_image"][:, 0, 0, 0].tolist() == list(range(12))
    np.testing.assert_allclose(episode["time"], np.arange(12) / 10, atol=1e-9)
    assert store.contract.observations["joint_pos"].names == ("b", "a") and store.contract.rate == 10
    assert store.contract.action.space == "joint" and store.provenance["imported_from"] == "mcap"


def test_gaps_end_episodes(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", starts=(100.0, 110.0), steps=6)
    entry = detect_format(tmp_path / "bag")
    store = import_dataset(
        tmp_path / "bag", tmp_path / "out.zarr", entry, bindings(tmp_path / "b.yaml", gap=0.05)
    )
    assert store.episode_lengths.tolist() == [6, 6]
    assert store.meta("start").tolist() == pytest.approx([100.0, 110.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": {"topic": "/comand", "field": "position"}}, "Did you mean '/command'"),
        ({"action": {"topic": "/command", "field": "positon"}}, "Did you mean 'position'"),
        (
            {"observations": {"q": {"topic": "/joint_states", "field": "position", "names": ["a", "elbow"]}}},
            "elbow",
        ),
        ({"observations": {"q": {"topic": "/joint_states", "field": "header"}}}, "holds no numbers"),
    ],
)
def test_wrong_bindings_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_bag(tmp_path / "bag", steps=3)
    with pytest.raises(ConfigError, match=message):
        import_dataset(
            tmp_path / "bag",
            tmp_path / "out.zarr",
            detect_format(tmp_path / "bag"),
            bindings(tmp_path / "b.yaml", **change),
        )
    assert not (tmp_path / "out.zarr").exists()


def test_bindings_are_needed(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", steps=3)
    with pytest.raises(ConfigError, match="bindings=FILE"):
        import_dataset(tmp_path / "bag", tmp_path / "out.zarr", detect_format(tmp_path / "bag"))


def test_damaged_bags_give_one_error(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", steps=3)
    options = bindings(tmp_path / "b.yaml")
    file = next((tmp_path / "bag").glob("*.mcap"))
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    failed = 0
    for trial in range(40):
        damaged = bytearray(content[: rng.integers(1, len(content))] if trial % 2 else content)
        for _ in range(5):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        file.write_bytes(bytes(damaged))
        out = tmp_path / f"out{trial}.zarr"
        try:
            import_dataset(tmp_path / "bag", out, detect_format(tmp_path / "bag"), options)
        except DiffbotError:
            failed += 1
            assert not out.exists()
    assert failed >= 15
