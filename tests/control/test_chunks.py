"""Chunk timelines and the buffer's promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffbot.control.chunk import Chunk, ChunkBuffer

STEP = 0.05


def ramp(start, horizon=8, value=0.0, **options):
    """A chunk whose entry i is `value` + the absolute step number."""
    first = round(start / STEP)
    actions = (value + first + np.arange(horizon, dtype=np.float32))[:, None] * np.ones((1, 2), np.float32)
    return Chunk(actions, start=start, step=STEP, **options)


@given(st.integers(0, 2000), st.integers(-5, 40), st.floats(0.0, 0.99))
def test_a_step_covers_its_own_interval(first, offset, within):
    chunk = ramp(first * STEP, horizon=16)
    now = (first + offset) * STEP + within * STEP
    action = chunk.at(now)
    if 0 <= offset < 16:
        assert action is not None and action[0] == first + offset
    else:
        assert action is None


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10), st.integers(1, 12)), max_size=25))
def test_lookup_never_returns_a_step_beyond_a_chunks_end_or_of_an_older_observation(events):
    buffer = ChunkBuffer(2)
    now, newest = 0, -1
    for advance, age, horizon in events:
        now += advance
        start = max(0, now - age)
        reason = buffer.push(ramp(start * STEP, horizon), now * STEP)
        if reason == "":
            assert start >= newest and start + horizon > now
            newest = start
        else:
            assert reason == ("out_of_order_chunk" if start < newest else "stale_chunk")
        for later in range(now, now + 15):
            found = buffer.newest(later * STEP)
            if found is not None:
                chunk, index = found
                assert 0 <= index < chunk.horizon
                moved = round((chunk.start - chunk.observed) / STEP)
                assert chunk.actions[index, 0] == later - moved


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (Chunk(np.full((4, 2), np.nan), 0.0, STEP), "non_finite_chunk"),
        (Chunk(np.zeros((4, 3)), 0.0, STEP), "wrong_shape"),
        (ramp(0.0, contract_hash="bbb"), "contract_mismatch"),
        (ramp(-1.0), "stale_chunk"),
        (ramp(5.0), "future_chunk"),
        (ramp(0.0, contract_hash="aaa"), ""),
        (ramp(0.0), ""),
    ],
)
def test_refusals(chunk, reason):
    assert ChunkBuffer(2, contract_hash="aaa").push(chunk, 0.0) == reason


def test_invalid_steps_may_hold_anything_and_are_never_returned():
    actions = np.zeros((4, 2), np.float32)
    actions[2] = np.nan
    buffer = ChunkBuffer(2)
    assert buffer.push(Chunk(actions, 0.0, STEP, valid=[True, True, False, True]), 0.0) == ""
    assert buffer.newest(2 * STEP) is None
    assert buffer.newest(3 * STEP) is not None


def test_old_chunks_do_not_come_back():
    buffer = ChunkBuffer(2, max_age=3 * STEP)
    buffer.push(ramp(0.0, horizon=16), 0.0)
    assert buffer.newest(3 * STEP) is not None
    assert buffer.newest(4 * STEP) is None


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 2, 2)])
def test_malformed_chunks_are_errors(shape):
    with pytest.raises(ValueError, match="chunk actions"):
        Chunk(np.zeros(shape), 0.0, STEP)


def test_a_chunk_that_finds_the_robot_at_rest_starts_when_it_arrives():
    buffer = ChunkBuffer(2)
    assert buffer.push(ramp(0.0, 10), 4 * STEP) == ""
    assert [buffer.latest.index(k * STEP) for k in (4, 7)] == [0, 3]
    assert buffer.latest.observed == 0.0
    # The robot moves by now, so the next one keeps its time line.
    assert buffer.push(ramp(8 * STEP, 10), 12 * STEP) == ""
    assert buffer.latest.index(12 * STEP) == 4
    # It ran out of steps before this observation was made.
    assert buffer.push(ramp(30 * STEP, 10), 33 * STEP) == ""
    assert buffer.latest.index(33 * STEP) == 0
    # This observation was made while it still moved.
    buffer.clear()
    assert buffer.push(ramp(0.0, 10), 0.0) == ""
    buffer.forget(12 * STEP)
    assert not len(buffer) and buffer.push(ramp(8 * STEP, 10), 13 * STEP) == ""
    assert buffer.latest.index(13 * STEP) == 5


@given(st.floats(0, 50), st.floats(0, 9.5))
def test_late_first_chunks_lose_none_of_their_steps(start, delay):
    buffer = ChunkBuffer(2)
    now = start + delay * STEP
    assert buffer.push(ramp(start, 10), now) == ""
    executed = [buffer.newest(now + k * STEP) for k in range(10)]
    assert [index for _, index in executed] == list(range(10))


def test_order_and_age_are_those_of_the_observation():
    buffer = ChunkBuffer(2, max_age=6 * STEP)
    assert buffer.push(ramp(0.0, 10), 4 * STEP) == ""  # starts at 4
    assert buffer.push(ramp(2 * STEP, 10), 5 * STEP) == ""
    assert buffer.push(ramp(1 * STEP, 10), 5 * STEP) == "out_of_order_chunk"
    assert len(buffer.covering(6 * STEP)) == 2 and len(buffer.covering(7 * STEP)) == 1
