"""Formats: import -> export -> import is identical, and files of the formats' own libraries are read as those libraries read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
import zarr
from minari.data_collector.episode_buffer import EpisodeBuffer

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.formats.base import ImportOptions, detect_format, format_by_name, formats
from diffbot.data.formats.convert import export_dataset, import_dataset
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, DataError

LENGTHS = (5, 9, 3)
SUFFIX = {"robomimic": ".hdf5", "d4rl": ".hdf5", "diffusion_policy": ".zarr.zip"}
TWO_WAY = ["robomimic", "d4rl", "minari", "diffusion_policy", "lerobot_v21", "lerobot_v3"]
WITH_IMAGES = ["robomimic", "diffusion_policy", "lerobot_v21", "lerobot_v3"]


def make_store(path: Path, images: bool) -> EpisodeStore:
    rng = np.random.default_rng(0)
    observations = {
        "eef_pos": Field((3,), unit="m", names=("x", "y", "z")),
        "gripper": Field((2,), unit="m", low=(0.0,), high=(0.04,)),
    }
    if images:
        observations["front_image"] = Field((16, 24, 3), "uint8", kind="image")
    contract = Contract(
        observations, Action((4,), low=-1, high=1, meaning="delta", space="cartesian"), 20.0, "a/b"
    )
    store = EpisodeStore.create(path, contract, {"robot_type": "panda"})
    with store.writer() as writer:
        for i, length in enumerate(LENGTHS):
            arrays: dict[str, np.ndarray] = {
                "eef_pos": rng.normal(size=(length, 3)).astype(np.float32),
                "gripper": rng.uniform(0, 0.04, (length, 2)).astype(np.float32),
                "action": rng.uniform(-1, 1, (length, 4)).astype(np.float32),
                "reward": rng.normal(size=length),
                "terminated": np.arange(length) == length - 1,
                "sim_state": rng.normal(size=(length, 7)),
            }
            if images:
                arrays["front_image"] = rng.integers(0, 256, (length, 16, 24, 3), dtype=np.uint8)
            writer.append(arrays, {"success": i % 2 == 0, "seed": 40 + i, "mode": f"side{i}"})
    return store


def assert_equal_stores(left: EpisodeStore, right: EpisodeStore, extra: tuple[str, ...] = ()) -> None:
    assert left.contract == right.contract
    np.testing.assert_array_equal(left.episode_ends, right.episode_ends)
    assert set(right.keys) - set(extra) == set(left.keys) - set(extra)
    for key in set(left.keys) & set(right.keys):
        a, b = left.load([key])[key], right.load([key])[key]
        assert a.dtype == b.dtype, key
        np.testing.assert_array_equal(a, b, err_msg=key)
    for name in left.meta_names:
        assert left.meta(name).tolist() == right.meta(name).tolist(), name


@pytest.mark.parametrize("name", TWO_WAY)
def test_round_trip_is_identical(tmp_path: Path, name: str) -> None:
    entry = format_by_name(name)
    first = make_store(tmp_path / "first.zarr", images=name in WITH_IMAGES)
    export_dataset(first, tmp_path / f"one{SUFFIX.get(name, '')}", entry)
    assert detect_format(tmp_path / f"one{SUFFIX.get(name, '')}").name == name
    second = import_dataset(tmp_path / f"one{SUFFIX.get(name, '')}", tmp_path / "second.zarr", entry)
    # The flat formats say for each step whether time ran out; that array is new after the first import.
    added = ("truncated",) if name in ("d4rl", "minari") else ()
    assert_equal_stores(first, second, added)
    export_dataset(second, tmp_path / f"two{SUFFIX.get(name, '')}", entry)
    third = import_dataset(tmp_path / f"two{SUFFIX.get(name, '')}", tmp_path / "third.zarr", entry)
    assert_equal_stores(second, third)
    assert not [p.name for p in tmp_path.iterdir() if "porting" in p.name]


def test_minari_reads_what_we_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "store.zarr", images=False)
    export_dataset(store, tmp_path / "minari" / "test-v0", format_by_name("minari"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    dataset = minari.MinariDataset(tmp_path / "minari" / "test-v0" / "data")
    assert dataset.total_episodes == len(LENGTHS) and dataset.total_steps == sum(LENGTHS)
    for i, episode in enumerate(dataset.iterate_episodes()):
        ours = store.episode(i)
        np.testing.assert_array_equal(episode.actions, ours["action"])
        np.testing.assert_array_equal(episode.observations["eef_pos"][:-1], ours["eef_pos"])
        np.testing.assert_array_equal(episode.rewards, ours["reward"])


def test_we_read_what_minari_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    import gymnasium

    rng = np.random.default_rng(1)
    buffers = []
    for i, length in enumerate(LENGTHS):
        buffer = EpisodeBuffer(
            id=i,
            seed=i,
            observations={
                "pose": {"xy": rng.normal(size=(length + 1, 2))},
                "z": rng.normal(size=(length + 1, 1)),
            },
            actions=list(rng.normal(size=(length, 2)).astype(np.float32)),
            rewards=list(rng.normal(size=length)),
            terminations=[False] * length,
            truncations=[False] * (length - 1) + [True],
        )
        buffers.append(buffer)
    box = gymnasium.spaces.Box
    space = gymnasium.spaces.Dict(
        {
            "pose": gymnasium.spaces.Dict({"xy": box(-np.inf, np.inf, (2,), np.float64)}),
            "z": box(-np.inf, np.inf, (1,), np.float64),
        }
    )
    minari.create_dataset_from_buffers(
        "test-v0", buffers, observation_space=space, action_space=box(-1, 1, (2,), np.float32), algorithm_name="x",
        author="x", author_email="x@example.org", code_permalink="x", data_format="hdf5",
    )  # fmt: skip
    entry = detect_format(tmp_path / "minari" / "test-v0")
    with pytest.raises(ConfigError, match="rate=20"):
        import_dataset(tmp_path / "minari" / "test-v0", tmp_path / "out.zarr", entry)
    store = import_dataset(
        tmp_path / "minari" / "test-v0", tmp_path / "out.zarr", entry, ImportOptions(rate=10)
    )
    theirs = minari.load_dataset("test-v0")
    for i, episode in enumerate(theirs.iterate_episodes()):
        ours = store.episode(i)
        np.testing.assert_array_equal(ours["pose.xy"], episode.observations["pose"]["xy"][:-1])
        np.testing.assert_array_equal(ours["action"], episode.actions)
        assert ours["truncated"].tolist() == list(episode.truncations)
        np.testing.assert_array_equal(store.meta("final_z")[i], episode.observations["z"][-1])


def test_we_read_robomimic_files_without_our_contract(tmp_path: Path) -> None:
    path = tmp_path / "low_dim.hdf5"
    rng = np.random.default_rng(2)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}
        )
        for name, length in (("demo_10", 4), ("demo_2", 6)):
            demo = data.create_group(name)
            demo["actions"] = rng.normal(size=(length, 7))
            demo["obs/object"] = rng.normal(size=(length, 10))
            demo["rewards"], demo["dones"] = np.eye(length)[-1], np.eye(length)[-1]
    store = import_dataset(path, tmp_path / "out.zarr", detect_format(path))
    assert store.episode_lengths.tolist() == [6, 4], "demonstrations come in the order of their numbers"
    assert store.contract.rate == 20 and store.contract.observations["object"].shape == (10,)
    assert store.meta("success").all()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(store.episode(1)["object"], file["data/demo_10/obs/object"][()])


def test_robosuite_states_without_observations_say_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        file["data/demo_1/actions"], file["data/demo_1/states"] = np.zeros((3, 7)), np.zeros((3, 9))
    with pytest.raises(DataError, match="no observations"):
        import_dataset(path, tmp_path / "out.zarr", format_by_name("robomimic"))


def test_d4rl_splits_at_terminals_and_timeouts(tmp_path: Path) -> None:
    path = tmp_path / "hopper.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = np.arange(20.0).reshape(10, 2), np.zeros((10, 1), np.float32)
        file["rewards"], file["terminals"] = np.ones(10), np.eye(10)[3].astype(bool)
        file["timeouts"] = np.eye(10)[7].astype(bool)
    store = import_dataset(path, tmp_path / "out.zarr", detect_format(path), ImportOptions(rate=125))
    assert store.episode_lengths.tolist() == [4, 4, 2]
    flags = store.load(["terminated", "truncated"])
    assert np.flatnonzero(flags["terminated"]).tolist() == [3]
    assert np.flatnonzero(flags["truncated"]).tolist() == [7, 9]


def test_umi_actions_are_the_next_poses(tmp_path: Path) -> None:
    path = tmp_path / "umi.zarr"
    from imagecodecs.numcodecs import Jpegxl, register_codecs

    register_codecs(verbose=False)
    rng = np.random.default_rng(3)
    root = zarr.create_group(str(path), zarr_format=2)
    arrays: dict[str, Any] = {
        "robot0_eef_pos": rng.normal(size=(9, 3)).astype(np.float32),
        "robot0_eef_rot_axis_angle": rng.normal(size=(9, 3)).astype(np.float32),
        "robot0_gripper_width": rng.normal(size=(9, 1)).astype(np.float32),
    }
    for key, value in arrays.items():
        root.create_array(f"data/{key}", data=value)
    frames = rng.integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    images = root.create_array(
        "data/camera0_rgb", shape=frames.shape, chunks=(1, 16, 16, 3), dtype="uint8",
        compressors=Jpegxl(lossless=True, numthreads=1),
    )  # fmt: skip
    images[:] = frames
    root.create_array("meta/episode_ends", data=np.array([5, 9]))
    store = import_dataset(path, tmp_path / "out.zarr", detect_format(path))
    assert store.contract.rate == 60 and store.episode_lengths.tolist() == [4, 3]
    pose = np.concatenate(
        [arrays[k] for k in ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")], 1
    )
    np.testing.assert_array_equal(store.episode(1)["action"], pose[6:9])
    np.testing.assert_array_equal(store.episode(1)["robot0_eef_pos"], pose[5:8, :3])
    np.testing.assert_array_equal(store.episode(1)["camera0_rgb"], frames[5:8])


def test_files_that_reach_outside_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.hdf5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros((3, 2))
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 7))
        file["data/demo_0/obs/x"] = h5py.ExternalLink(str(secret), "x")
    with pytest.raises(DataError, match="links to another file"):
        import_dataset(path, tmp_path / "out.zarr", format_by_name("robomimic"))
    raw = tmp_path / "raw.hdf5"
    with h5py.File(raw, "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 7))
        file.create_dataset("data/demo_0/obs/x", (3, 2), "f4", external=[(str(secret), 0, 24)])
    with pytest.raises(DataError, match="in other files"):
        import_dataset(raw, tmp_path / "out.zarr", format_by_name("robomimic"))
    assert not (tmp_path / "out.zarr").exists()


def test_names_and_detection() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'robomimic'"):
        format_by_name("robomimik")
    assert set(TWO_WAY) | {"umi"} <= set(formats())


def test_unknown_file_names_the_formats(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"hello")
    with pytest.raises(DataError, match="format=NAME"):
        detect_format(tmp_path / "x.bin")
