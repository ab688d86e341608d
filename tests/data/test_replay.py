"""The replay buffer against a list that does the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.replay import ReplayBuffer, join
from diffbot.errors import DataError

CONTRACT = Contract({"x": Field((2,)), "count": Field((1,), dtype="int32")}, Action((1,)), rate=10.0)


def filled(number: int, capacity: int, keys: tuple[str, ...] = ("x", "count")) -> ReplayBuffer:
    buffer = ReplayBuffer(CONTRACT, keys, capacity)
    for i in range(number):
        observation = {"x": np.full(2, i, np.float32), "count": np.array([i], np.int32)}
        following = {"x": np.full(2, i + 0.5, np.float32), "count": np.array([i + 1], np.int32)}
        buffer.add(observation, np.array([-i], np.float32), 10.0 * i, following, i % 3 == 0)
    return buffer


def test_a_full_buffer_forgets_the_oldest() -> None:
    buffer = filled(13, 5)
    assert len(buffer) == 5
    batch = buffer.gather(np.arange(5))
    assert sorted(batch.observations["count"].flatten().tolist()) == [8, 9, 10, 11, 12]
    # Rows stay whole, whatever was overwritten.
    i = batch.observations["count"].flatten().float()
    assert torch.equal(batch.actions.flatten(), -i)
    assert batch.rewards is not None and torch.equal(batch.rewards.flatten(), 10.0 * i)
    assert batch.terminals is not None and torch.equal(batch.terminals.flatten(), i.long() % 3 == 0)
    assert batch.next_observations is not None
    assert torch.equal(batch.next_observations["x"][:, 0, 0], i + 0.5)


def test_batches_have_the_shapes_of_single_transitions() -> None:
    batch = filled(9, 20).sample(6, np.random.default_rng(0))
    assert batch.observations["x"].shape == (6, 1, 2) and batch.observations["count"].dtype == torch.int32
    assert batch.actions.shape == (6, 1, 1) and batch.mask.all()
    both = join(batch, filled(9, 20).gather(np.arange(3)))
    assert len(both) == 9
    assert {tuple(t.shape[:2]) for _, t in both.tensors()} == {(9, 1)}


def test_draws_are_uniform_over_the_filled_part() -> None:
    batch = filled(4, 1000).sample(8000, np.random.default_rng(0))
    counts = torch.bincount(batch.observations["count"].flatten().long())
    assert len(counts) == 4 and (counts.double() / 8000 - 0.25).abs().max() < 0.02


def test_many_rows_at_once_equal_rows_one_by_one() -> None:
    one, many = filled(8, 5), filled(3, 5)
    rows = {name: array[:5] for name, array in filled(5, 5).arrays.items()}
    rows = {name: torch.from_numpy(array.numpy().copy()) for name, array in rows.items()}
    for i in range(5):
        for name, array in filled(8, 8).arrays.items():
            rows[name][i] = array[3 + i]
    many.extend(rows)
    assert many.count == one.count
    for name in one.arrays:
        assert torch.equal(one.arrays[name], many.arrays[name]), name


def test_state_restores_what_is_held() -> None:
    buffer = filled(7, 5)
    other = ReplayBuffer(CONTRACT, ("x", "count"), 5)
    other.load_state(buffer.state())
    for each in (buffer, other):
        each.extend(
            {name: array[:1] + (0 if array.dtype == torch.bool else 1) for name, array in each.arrays.items()}
        )
    for name in buffer.arrays:
        assert torch.equal(buffer.arrays[name], other.arrays[name]), name


def test_wrong_uses_are_named() -> None:
    with pytest.raises(DataError, match="empty"):
        ReplayBuffer(CONTRACT, ("x",), 3).sample(1, np.random.default_rng(0))
    with pytest.raises(DataError, match="4 rows do not fit into a replay buffer of 3"):
        filled(1, 3).extend(
            {name: array.repeat(4, *[1] * (array.dim() - 1)) for name, array in filled(1, 1).arrays.items()}
        )
    with pytest.raises(DataError, match="capacity 0"):
        ReplayBuffer(CONTRACT, ("x",), 0)
