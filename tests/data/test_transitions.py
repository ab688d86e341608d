"""Independent transitions: stores whose rows carry their own next observation, as synthesizers write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.merge import merge
from diffbot.data.store import EpisodeStore
from diffbot.data.transitions import transition_rows
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.errors import DataError

CONTRACT = Contract({"x": Field((2,))}, Action((1,)), rate=10.0, task="none")
SINGLE = WindowSpec(1, 1, ("x",), rewards=True, terminals=True, next_observations=True)


def recorded(path: Path, ends_itself: bool, steps: int = 5, start: float = 0.0) -> EpisodeStore:
    """x counts up from `start`, so that s' = s + 1 in every transition."""
    store = EpisodeStore.create(path, CONTRACT)
    count = np.arange(steps, dtype=np.float32) + np.float32(start)
    terminated = np.zeros(steps, bool)
    terminated[-1] = ends_itself
    rows = {
        "x": np.stack([count, -count], 1),
        "action": count[:, None] / 10,
        "reward": count,
        "terminated": terminated,
    }
    store.append(rows, {"seed": 1})
    return store


def independent(path: Path, rows: dict[str, np.ndarray], blocks: int = 1) -> EpisodeStore:
    store = EpisodeStore.create(path, CONTRACT, independent=True)
    for _ in range(blocks):
        store.append(rows, {"seed": 2})
    return EpisodeStore.open(path)


@pytest.mark.parametrize("ends_itself", [True, False])
def test_rows_and_windows_agree(tmp_path: Path, ends_itself: bool) -> None:
    """The same transitions, whether windows cut them from an episode or a store carries them row by row."""
    store = recorded(tmp_path / "a.zarr", ends_itself)
    rows = transition_rows(store, 0)
    assert len(rows["action"]) == (5 if ends_itself else 4)
    moved = independent(tmp_path / "b.zarr", rows)
    assert moved.independent and not store.independent
    from_episodes, from_rows = Windows(store, SINGLE), Windows(moved, SINGLE)
    assert len(from_rows) == len(from_episodes) == len(rows["action"])
    everything = np.arange(len(from_rows))
    one, other = from_episodes.gather(everything), from_rows.gather(everything)
    for (name, a), (_, b) in zip(one.tensors(), other.tensors(), strict=True):
        assert a.shape == b.shape, name
        assert (a == b).all(), name


def test_terminations_inside_a_block_are_transitions_of_their_own(tmp_path: Path) -> None:
    rows = transition_rows(recorded(tmp_path / "a.zarr", True), 0)
    rows["terminated"] = np.array([False, True, False, True, False])
    rows["next_x"] = rows["next_x"] + 10
    store = independent(tmp_path / "b.zarr", rows)
    batch = Windows(store, SINGLE).gather(np.array([1, 2]))
    assert batch.terminals is not None and batch.terminals[:, 0].tolist() == [True, False]
    assert batch.next_observations is not None
    assert batch.next_observations["x"][:, 0, 0].tolist() == [12.0, 13.0]


@pytest.mark.parametrize(
    "spec", [WindowSpec(2, 1, ("x",)), WindowSpec(1, 4, ("x",)), WindowSpec(1, 1, goal="final")]
)
def test_sequences_are_refused(tmp_path: Path, spec: WindowSpec) -> None:
    store = independent(tmp_path / "b.zarr", transition_rows(recorded(tmp_path / "a.zarr", True), 0))
    with pytest.raises(DataError, match="transitions without neighbours"):
        Windows(store, spec)


def test_merge_of_recorded_and_synthesized(tmp_path: Path) -> None:
    real = recorded(tmp_path / "a.zarr", True)
    real.append({**real.episode(0)}, {"seed": 3})
    synthetic = independent(
        tmp_path / "b.zarr", transition_rows(recorded(tmp_path / "c.zarr", False, start=50), 0), 6
    )
    out = merge([EpisodeStore.open(real.path), synthetic], tmp_path / "m.zarr", [1, 2], seed=3)
    assert out.independent
    windows = Windows(out, SINGLE)
    batch = windows.gather(np.arange(len(windows)))
    assert batch.next_observations is not None
    alive = ~batch.terminals[:, 0]  # type: ignore[index]
    assert (batch.next_observations["x"][:, 0, 0] - batch.observations["x"][:, 0, 0])[alive].eq(1).all()
    made = batch.observations["x"][:, 0, 0] >= 50
    # 10 recorded steps, so 20 synthesized ones: five blocks of four.
    assert (int((~made).sum()), int(made.sum())) == (10, 20)
    assert out.meta("source").tolist() == [0, 0, 1, 1, 1, 1, 1]


def test_no_rewards_no_transitions(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "a.zarr", CONTRACT)
    store.append({"x": np.zeros((3, 2), np.float32), "action": np.zeros((3, 1), np.float32)})
    with pytest.raises(DataError, match="no array 'reward'"):
        transition_rows(store, 0)
