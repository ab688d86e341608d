"""What is on the disk, and in which order it got there. A power cut cannot be had in a test; the order of the calls can."""

import os
from pathlib import Path

import pytest
from data_cases import IMAGE_CONTRACT, episode, make_store

from diffbot.data.durable import replace_on_disk
from diffbot.data.store import EpisodeStore


@pytest.fixture
def synced(monkeypatch):
    """The path, as it was then, of every fsync in order."""
    calls: list[str] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    return calls


@pytest.mark.parametrize("fmt", [2, 3])
def test_rows_are_on_the_disk_before_the_episode_exists_and_it_before_the_report(tmp_path, synced, fmt):
    path = tmp_path / "store.zarr"
    store = EpisodeStore.create(path, IMAGE_CONTRACT, zarr_format=fmt)
    for number in range(3):
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        synced.clear()
        store.append(episode(20, number, IMAGE_CONTRACT), {"seed": number})
        written = {f for f in path.rglob("*") if f.is_file() and before.get(f) != f.read_bytes()}
        # A file that was there is synced under its scratch name, before it takes the place of the old one.
        names = {Path(name) for name in synced}
        scratch = {Path(name).parent for name in synced if name.endswith(".partial")}
        for file in written:
            assert file in names or file.parent in scratch, f"{file} was never synced"
        ends = path / "meta" / "episode_ends"
        commit = max(i for i, name in enumerate(synced) if Path(name).is_relative_to(ends))
        rows = [i for i, name in enumerate(synced) if Path(name).is_relative_to(path / "data")]
        assert rows and max(rows) < commit


def test_all_of_a_new_store_is_synced_before_it_appears(tmp_path, synced):
    EpisodeStore.create(tmp_path / "store.zarr", IMAGE_CONTRACT)
    files = {f.name for f in (tmp_path / "store.zarr").rglob("*") if f.is_file()}
    assert files <= {Path(name).name for name in synced if ".creating" in name}


def test_a_failed_replacement_keeps_the_old_content_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "chunk"
    path.write_bytes(b"old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            replace_on_disk(path, b"new and longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    replace_on_disk(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fails_at_the_sync_costs_one_episode(tmp_path, monkeypatch):
    store = make_store(tmp_path / "store.zarr", [5, 7])
    fsync, calls = os.fsync, []

    def fail_later(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_later)
        with pytest.raises(Exception, match="the disk is full: episode 2 was not stored"):
            store.append(episode(9, 2), {"success": True, "seed": 2, "mode": "mode 2"})
    again = EpisodeStore.open(tmp_path / "store.zarr", "a")
    assert len(again) == 2
    again.append(episode(9, 2), {"success": True, "seed": 2, "mode": "mode 2"})
    assert len(EpisodeStore.open(tmp_path / "store.zarr")) == 3
