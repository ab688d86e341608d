"""The store against lists in memory, and what it does with a killed or a second writer."""

import json
import multiprocessing
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from data_cases import CONTRACT, IMAGE_CONTRACT, episode, make_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffbot.data.repair import TornTailWarning
from diffbot.data.store import EpisodeStore
from diffbot.errors import ContractError, DataError


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 40), max_size=5),
    reopen=st.sets(st.integers(0, 4)),
    fmt=st.sampled_from([2, 3]),
)
def test_appended_episodes_equal_a_list(tmp_path, lengths, reopen, fmt):
    path = tmp_path / "store.zarr"
    shutil.rmtree(path, ignore_errors=True)
    store = EpisodeStore.create(path, IMAGE_CONTRACT, zarr_format=fmt)
    written = [episode(n, i, IMAGE_CONTRACT) for i, n in enumerate(lengths)]
    for i, arrays in enumerate(written):
        if i in reopen:
            store = EpisodeStore.open(path, "a")
        assert store.append(arrays, {"seed": i, "text": "é" * i}) == i
    for opened in (store, EpisodeStore.open(path)):
        assert len(opened) == len(written) and opened.steps == sum(lengths)
        assert not opened.tail
        for i, arrays in enumerate(written):
            got = opened.episode(i)
            assert got.keys() == arrays.keys()
            for key, value in arrays.items():
                assert got[key].dtype == value.dtype
                np.testing.assert_array_equal(got[key], value)
        if written:
            assert opened.meta("seed").tolist() == list(range(len(written)))
            assert opened.meta("text").tolist() == ["é" * i for i in range(len(written))]
            np.testing.assert_array_equal(
                opened.load(["action"])["action"], np.concatenate([e["action"] for e in written])
            )


def test_the_layout_is_the_one_that_diffusion_policy_tools_read(tmp_path):
    """Plain zarr, format 2, data/<key> of equal length, meta/episode_ends as their ReplayBuffer asserts it."""
    make_store(tmp_path / "s.zarr", [5, 7])
    assert json.loads((tmp_path / "s.zarr/data/action/.zarray").read_text())["zarr_format"] == 2
    root = zarr.open_group(str(tmp_path / "s.zarr"), mode="r")
    ends = root["meta/episode_ends"]
    assert ends[:].tolist() == [5, 12] and ends.dtype == np.int64
    assert all(array.shape[0] == ends[-1] for _, array in root["data"].arrays())
    assert root.attrs["contract"]["rate"] == 20.0 and root.attrs["provenance"] == {"made": "by a test"}


def test_image_chunks_hold_16_frames_and_jpeg_chunks_one(tmp_path):
    assert make_store(tmp_path / "a.zarr", [20], IMAGE_CONTRACT).array("camera").chunks[0] == 16
    store = make_store(tmp_path / "b.zarr", [20], IMAGE_CONTRACT, image_codec="jpeg")
    assert store.array("camera").chunks[0] == 1


def test_jpeg_is_close_to_what_was_written(tmp_path):
    store = EpisodeStore.create(tmp_path / "j.zarr", IMAGE_CONTRACT, image_codec="jpeg")
    arrays = episode(4, 0, IMAGE_CONTRACT)
    ramp = np.linspace(0, 255, 30).reshape(6, 5, 1).repeat(3, 2)
    arrays["camera"] = np.broadcast_to(ramp, (4, 6, 5, 3)).astype(np.uint8)
    store.append(arrays)
    got = EpisodeStore.open(tmp_path / "j.zarr").episode(0)["camera"]
    assert got.shape == (4, 6, 5, 3) and got.dtype == np.uint8
    assert np.abs(got.astype(int) - arrays["camera"].astype(int)).max() <= 6


def tear(path: Path, how: str) -> None:
    """Leave what a writer leaves that is killed after: some rows, all rows, the metadata, growing episode_ends."""
    root = zarr.open_group(str(path), mode="r+")
    data, meta = root["data"], root["meta"]
    state = data["state"]
    state.resize((state.shape[0] + 4, 3))
    state[-4:] = 7.0
    if how in ("rows", "meta", "ends"):
        data["action"].resize((data["action"].shape[0] + 4, 2))
    if how in ("meta", "ends"):
        meta["seed"].resize((meta["seed"].shape[0] + 1,))
    if how == "ends":
        meta["episode_ends"].resize((meta["episode_ends"].shape[0] + 1,))
    (path / "data/state/3.0.0123.partial").write_bytes(b"half a chunk")


def files(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("how", ["one array", "rows", "meta", "ends"])
def test_a_torn_tail_is_ignored_by_readers_and_cut_by_the_next_writer(tmp_path, how):
    path = tmp_path / "s.zarr"
    make_store(path, [5, 7])
    whole = EpisodeStore.open(path).load()
    tear(path, how)
    before = files(path)
    reader = EpisodeStore.open(path)
    assert len(reader) == 2 and reader.tail and not reader.tail.repaired
    assert files(path) == before, "reading must not write"
    with pytest.warns(TornTailWarning, match="2 committed episodes are intact"):
        store = EpisodeStore.open(path, "a")
    assert store.tail.repaired and store.tail.partial_files == 1
    for key, value in store.load().items():
        np.testing.assert_array_equal(value, whole[key])
    store.append(episode(3, 9), {"success": True, "seed": 9, "mode": "new"})
    again = EpisodeStore.open(path)
    assert not again.tail and again.meta("seed").tolist() == [0, 1, 9]
    np.testing.assert_array_equal(again.episode(2)["state"], episode(3, 9)["state"])
    assert not list(path.rglob("*.partial"))


def test_corrupt_ends_and_missing_rows_are_errors_not_fewer_episodes(tmp_path):
    path = tmp_path / "s.zarr"
    make_store(path, [5, 7, 6])
    shutil.copytree(path, tmp_path / "short.zarr")
    zarr.open_group(str(path), mode="r+")["meta/episode_ends"][1] = 3
    with pytest.raises(DataError, match="corrupt"):
        EpisodeStore.open(path)
    zarr.open_group(str(tmp_path / "short.zarr"), mode="r+")["data/action"].resize((9, 2))
    with pytest.raises(DataError, match=r"data/action has 9 steps, but 18 are committed"):
        EpisodeStore.open(tmp_path / "short.zarr")


def _hold_the_lock(path, ready, leave):
    with EpisodeStore.open(path, "a").writer():
        ready.set()
        leave.wait(30)


def test_a_second_writer_is_refused_until_the_first_dies(tmp_path):
    path = tmp_path / "s.zarr"
    make_store(path, [5])
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=_hold_the_lock, args=(path, ready, leave))
    process.start()
    try:
        assert ready.wait(60)
        store = EpisodeStore.open(path, "a")
        with pytest.raises(DataError, match="another process is writing"):
            store.append(episode(3, 1), {"success": True, "seed": 1, "mode": ""})
        assert len(EpisodeStore.open(path)) == 1, "readers are never refused"
    finally:
        process.kill()
        process.join()
    store.append(episode(3, 1), {"success": True, "seed": 1, "mode": ""})
    assert len(EpisodeStore.open(path)) == 2


def test_opening_for_append_leaves_a_living_writers_episode_alone(tmp_path):
    path = tmp_path / "s.zarr"
    store = make_store(path, [5])
    with store.writer():
        tear(path, "rows")
        before = files(path)
        assert EpisodeStore.open(path, "a").tail and files(path) == before


def test_a_reader_sees_new_episodes_after_refresh(tmp_path):
    writer = make_store(tmp_path / "s.zarr", [5])
    reader = EpisodeStore.open(tmp_path / "s.zarr")
    writer.append(episode(4, 1), {"success": True, "seed": 1, "mode": ""})
    assert len(reader) == 1
    reader.refresh()
    assert len(reader) == 2
    np.testing.assert_array_equal(reader.episode(1)["state"], episode(4, 1)["state"])


@pytest.mark.parametrize("nested", ["", "deep/er/"])
def test_zip_files_are_read_in_place(tmp_path, nested):
    store = make_store(tmp_path / "s.zarr", [5, 7], IMAGE_CONTRACT)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for name, content in files(tmp_path / "s.zarr").items():
            archive.writestr(nested + name, content)
    zipped = EpisodeStore.open(tmp_path / "s.zip")
    for key, value in store.load().items():
        np.testing.assert_array_equal(zipped.load()[key], value)
    with pytest.raises(DataError, match="only be read"):
        EpisodeStore.open(tmp_path / "s.zip", "a")


def test_a_zip_that_points_outside_is_refused(tmp_path):
    make_store(tmp_path / "s.zarr", [5])
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for name, content in files(tmp_path / "s.zarr").items():
            archive.writestr(name, content)
        archive.writestr("../outside", b"x")
    with pytest.raises(DataError, match="points outside"):
        EpisodeStore.open(tmp_path / "s.zip")


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "s.zarr"
    store = make_store(path, [5])
    before = files(path)
    good, meta = episode(4, 1), {"success": True, "seed": 1, "mode": ""}
    nan = good["state"].copy()
    nan[2, 1] = np.nan
    cases = [
        ({**good, "state": good["state"][:, :2]}, meta, ContractError, "shape"),
        ({**good, "state": good["state"].astype(np.float64)}, meta, ContractError, "dtype"),
        ({**good, "state": nan}, meta, ContractError, "NaN"),
        ({**good, "action": good["action"][:3]}, meta, DataError, "one positive length"),
        ({k: v[:0] for k, v in good.items()}, meta, DataError, "one positive length"),
        ({k: v for k, v in good.items() if k != "reward"}, meta, DataError, r"missing \['reward'\]"),
        ({**good, "extra": good["reward"]}, meta, DataError, r"new \['extra'\]"),
        ({**good, "reward": good["reward"].astype(np.float64)}, meta, DataError, "float64"),
        (good, {"success": True, "seed": 1}, DataError, r"missing \['mode'\]"),
        (good, {**meta, "seed": 1.5}, DataError, "float64"),
        ({k: v for k, v in good.items() if k != "action"}, meta, DataError, "lacks 'action'"),
        ({**good, "../x": good["reward"]}, meta, DataError, "letters"),
    ]
    for arrays, values, error, match in cases:
        with pytest.raises(error, match=match):
            store.append(arrays, values)
    assert files(path) == before


def test_errors_name_the_nearest_key(tmp_path):
    store = make_store(tmp_path / "s.zarr", [5])
    with pytest.raises(DataError, match="Did you mean 'action'"):
        store.load(["actoin"])
    with pytest.raises(DataError, match="Did you mean 'success'"):
        store.meta("sucess")
    with pytest.raises(DataError, match="no episode 1"):
        store.episode(1)
    with pytest.raises(DataError, match="exists already"):
        EpisodeStore.create(tmp_path / "s.zarr", CONTRACT)
    with pytest.raises(DataError, match="no dataset at"):
        EpisodeStore.open(tmp_path / "nothing.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not a"):
        EpisodeStore.open(tmp_path / "empty")
    with pytest.raises(DataError, match="open for reading"), EpisodeStore.open(tmp_path / "s.zarr").writer():
        pass


def test_a_killed_first_episode_does_not_fix_the_optional_arrays(tmp_path):
    path = tmp_path / "s.zarr"
    EpisodeStore.create(path, CONTRACT)
    root = zarr.open_group(str(path), mode="r+")
    root["data"].create_array("leftover", shape=(4,), chunks=(4,), dtype="f4")
    with pytest.warns(TornTailWarning):
        store = EpisodeStore.open(path, "a")
    store.append(episode(3, 0))
    assert "leftover" not in EpisodeStore.open(path).keys


def test_a_dataset_of_another_tool_opens_without_a_contract(tmp_path):
    root = zarr.create_group(str(tmp_path / "s.zarr"), zarr_format=2)
    root.create_group("data").create_array("action", data=np.ones((6, 2), np.float32))
    root.create_group("meta").create_array("episode_ends", data=np.array([2, 6]))
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert len(store) == 2 and not store.has_contract
    with pytest.raises(DataError, match="no contract"):
        _ = store.contract
    assert EpisodeStore.open(tmp_path / "s.zarr", contract=CONTRACT).contract == CONTRACT


def test_episodes_written_together_equal_episodes_written_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr("diffbot.data.layout.EPISODES_PER_CHUNK", 4)
    whole = [(episode(3 + i % 5, i), {"seed": i, "text": "é" * i}) for i in range(11)]
    one, many = (EpisodeStore.create(tmp_path / f"{name}.zarr", CONTRACT) for name in ("one", "many"))
    with one.writer() as writer:
        assert [writer.append(*each) for each in whole] == list(range(11))
    with many.writer() as writer:
        assert list(writer.append_all(whole[:6])) == list(range(6))
        assert list(writer.append_all([])) == []
        assert list(writer.append_all(whole[6:])) == list(range(6, 11))
    one, many = (EpisodeStore.open(store.path) for store in (one, many))
    assert many.root["meta/episode_ends"].chunks == (4,)
    assert len(many) == 11 and many.episode_lengths.tolist() == one.episode_lengths.tolist()
    assert many.meta("text").tolist() == one.meta("text").tolist()
    for i in range(11):
        for key, value in one.episode(i).items():
            np.testing.assert_array_equal(many.episode(i)[key], value)


def test_one_bad_episode_of_several_writes_none(tmp_path):
    store = make_store(tmp_path / "store.zarr", [5])
    meta = {"success": True, "seed": 1, "mode": "mode 1"}
    with store.writer() as writer, pytest.raises(DataError, match="missing"):
        writer.append_all([(episode(4, 1), meta), (episode(4, 2), {"seed": 2})])
    again = EpisodeStore.open(store.path, "a")
    assert len(again) == 1 and not again.tail
