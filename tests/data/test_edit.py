"""Deleting, trimming, splitting, merging and relabelling against the same on lists."""

import numpy as np
import pytest
from data_cases import CONTRACT, episode, make_store
from hypothesis import given
from hypothesis import strategies as st

from diffbot.data import edit
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.merge import episode_counts, merge
from diffbot.data.store import EpisodeStore
from diffbot.errors import ContractError, DataError


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return make_store(tmp_path / "s.zarr", [5, 8, 3, 6])


def same(store, index, want):
    for key, value in store.episode(index).items():
        np.testing.assert_array_equal(value, want[key])


def test_delete_keeps_the_others_and_the_original(store, tmp_path):
    new = edit.delete(store, tmp_path / "new.zarr", [1, 3])
    assert new.meta("seed").tolist() == [0, 2] and len(EpisodeStore.open(store.path)) == 4
    same(new, 1, store.episode(2))
    step = new.provenance["steps"][0]
    assert step["delete"] == [1, 3] and step["date"] and new.provenance["made"] == "by a test"
    for wrong in ([4], [-1], [1, 1]):
        with pytest.raises(DataError, match=r"within 0\.\.3"):
            edit.delete(store, tmp_path / "other.zarr", wrong)
    assert not (tmp_path / "other.zarr").exists()


def test_in_place_replaces_the_folder(store, tmp_path):
    new = edit.replace(store, lambda path: edit.delete(store, path, [0]))
    assert new.path == store.path and new.meta("seed").tolist() == [1, 2, 3]
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"s.zarr"}


def test_trim_cuts_steps_and_an_end_that_is_cut_is_not_terminal(store, tmp_path):
    whole = store.episode(1), store.episode(2)
    new = edit.trim(store, tmp_path / "new.zarr", {1: (2, 7), 2: (0, 2)})
    assert new.episode_lengths.tolist() == [5, 5, 2, 6]
    same(new, 1, {k: v[2:7] for k, v in whole[0].items()})
    assert whole[1]["terminated"][-1] and not new.episode(2)["terminated"].any()
    with pytest.raises(DataError, match="it has 8 steps"):
        edit.trim(store, tmp_path / "x.zarr", {1: (2, 9)})


def test_split_is_by_episode_disjoint_and_repeatable(store, tmp_path):
    train, val = edit.split(store, tmp_path / "t.zarr", tmp_path / "v.zarr", 0.25, seed=3)
    assert sorted([*train.meta("seed"), *val.meta("seed")]) == [0, 1, 2, 3] and len(val) == 1
    assert edit.split_episodes(50, 0.2, 1)[1].tolist() == edit.split_episodes(50, 0.2, 1)[1].tolist()
    assert edit.split_episodes(50, 0.2, 1)[1].tolist() != edit.split_episodes(50, 0.2, 2)[1].tolist()
    with pytest.raises(DataError, match="cannot split 1 episodes"):
        edit.split_episodes(1, 0.2, 1)


def test_relabel_changes_one_value_and_says_why(store):
    edit.relabel(store, "success", np.array([False, False, True, True]), "looked at the videos")
    edit.relabel(store, "operator", np.array(["a", "b", "a", "ç"], dtype=object), "from the lab book")
    again = EpisodeStore.open(store.path)
    assert again.meta("success").tolist() == [False, False, True, True]
    assert again.meta("operator").tolist() == ["a", "b", "a", "ç"]
    assert [s["reason"] for s in again.provenance["steps"]] == ["looked at the videos", "from the lab book"]
    assert not again.tail
    with pytest.raises(DataError, match="4 episodes need 4 values"):
        edit.relabel(store, "success", np.array([True]), "")
    with pytest.raises(DataError, match="the new values are"):
        edit.relabel(store, "success", np.array([0.5] * 4), "")
    with pytest.raises(DataError, match="open for reading"):
        edit.relabel(again, "success", np.ones(4, bool), "")


def test_an_interrupted_copy_leaves_nothing(store, tmp_path):
    def fail(index, arrays, meta):
        if index == 2:
            raise RuntimeError("stop")
        return arrays, meta

    with pytest.raises(RuntimeError, match="stop"):
        edit.rewrite(store, tmp_path / "new.zarr", range(4), {}, fail)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"s.zarr"}


def test_merge_appends_and_remembers_the_source(store, tmp_path):
    other = make_store(tmp_path / "o.zarr", [4, 2])
    new = merge([store, other], tmp_path / "m.zarr")
    assert new.meta("source").tolist() == [0, 0, 0, 0, 1, 1] and new.steps == store.steps + other.steps
    same(new, 5, other.episode(1))
    assert [m["path"] for m in new.provenance["merged"]] == ["s.zarr", "o.zarr"]


def test_merge_by_ratio_repeats_no_episode(store, tmp_path):
    other = make_store(tmp_path / "o.zarr", [4, 2])
    new = merge([store, other], tmp_path / "m.zarr", ratios=[1, 1], seed=5)
    assert np.bincount(new.meta("source")).tolist() == [2, 2]
    assert len(set(zip(new.meta("source"), new.meta("seed"), strict=True))) == 4


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.1, 9)), min_size=2, max_size=5))
def test_ratios_are_kept_to_within_one_episode_and_one_source_is_used_up(pairs):
    available, ratios = zip(*pairs, strict=True)
    counts = episode_counts(available, ratios)
    assert all(1 <= c <= n for c, n in zip(counts, available, strict=True))
    assert any(c == n for c, n in zip(counts, available, strict=True))
    scale = min(n / r for n, r in pairs)
    assert all(abs(c - r * scale) <= 1.0 + 1e-6 for c, r in zip(counts, ratios, strict=True))


def test_what_does_not_match_is_not_merged(store, tmp_path):
    wide = Contract({"state": Field((4,))}, Action((2,)), 20.0)
    fast = Contract(CONTRACT.observations, CONTRACT.action, 50.0)
    for name, contract, match in (("w", wide, "shape"), ("f", fast, "50 Hz")):
        other = make_store(tmp_path / f"{name}.zarr", [3], contract)
        with pytest.raises(ContractError, match=match):
            merge([store, other], tmp_path / "m.zarr")
    bare = EpisodeStore.create(tmp_path / "b.zarr", CONTRACT)
    bare.append({k: v for k, v in episode(3, 0).items() if k != "reward"})
    with pytest.raises(DataError, match=r"only s.zarr has \['reward'\]"):
        merge([store, bare], tmp_path / "m.zarr")
    with pytest.raises(DataError, match="as many ratios"):
        merge([store, store], tmp_path / "m.zarr", ratios=[1.0])
    assert not (tmp_path / "m.zarr").exists()
