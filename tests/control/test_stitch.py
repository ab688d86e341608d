"""Stitching against the formulas of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffbot.control.chunk import Chunk, ChunkBuffer
from diffbot.control.stitch import (
    OverlapBlend,
    RealTimeChunking,
    TemporalEnsemble,
    soft_mask,
    stitcher_by_name,
)
from diffbot.errors import ConfigError

STEP = 0.05
RNG = np.random.default_rng(0)


def filled(count, every=2, horizon=10):
    buffer = ChunkBuffer(3)
    chunks = [Chunk(RNG.normal(size=(horizon, 3)), i * every * STEP, STEP, id=i) for i in range(count)]
    for chunk in chunks:
        assert buffer.push(chunk, chunk.start) == ""
    return buffer, chunks


@pytest.mark.parametrize("m", [0.01, 0.5])
def test_ensemble_is_the_weighted_sum_of_act(m):
    buffer, chunks = filled(4)
    now = 7 * STEP
    weights = [math.exp(-m * i) for i in range(4)]
    expected = sum(w * c.actions[7 - 2 * i] for i, (w, c) in enumerate(zip(weights, chunks, strict=True)))
    selection = TemporalEnsemble(m).select(buffer, now)
    np.testing.assert_allclose(selection.action, expected / sum(weights), rtol=1e-6)
    assert selection.chunk is chunks[-1]


def test_switch_takes_the_newest():
    buffer, chunks = filled(3)
    selection = stitcher_by_name("switch").select(buffer, 6 * STEP)
    np.testing.assert_array_equal(selection.action, chunks[-1].actions[2])


def test_blend_moves_linearly_and_ends_on_the_new_chunk():
    buffer = ChunkBuffer(1)
    buffer.push(Chunk(np.zeros((20, 1)), 0.0, STEP), 0.0)
    buffer.push(Chunk(np.ones((20, 1)), 2 * STEP, STEP, id=1), 4 * STEP)
    blend = OverlapBlend(steps=3)
    values = [float(blend.select(buffer, k * STEP).action[0]) for k in range(4, 9)]
    np.testing.assert_allclose(values, [0.25, 0.5, 0.75, 1.0, 1.0], atol=1e-6)


@given(st.integers(1, 32), st.data())
def test_soft_mask_follows_equation_5(horizon, data):
    execute = data.draw(st.integers(1, horizon))
    delay = data.draw(st.integers(0, min(execute, horizon - execute)))
    weights = soft_mask(horizon, delay, horizon - execute)
    for i, weight in enumerate(weights):
        c = (horizon - execute - i) / (horizon - execute - delay + 1)
        if i < delay:
            expected = 1.0
        elif i < horizon - execute:
            expected = c * (math.exp(c) - 1) / (math.e - 1)
        else:
            expected = 0.0
        assert weight == pytest.approx(expected, abs=1e-6)
    assert (np.diff(weights) <= 1e-6).all()


def test_prefix_lies_on_the_next_chunks_grid():
    buffer, chunks = filled(1, horizon=10)
    prefix = RealTimeChunking().prefix(buffer, start=4 * STEP, delay=2, horizon=10, execute=4)
    np.testing.assert_array_equal(prefix.actions[:6], chunks[0].actions[4:])
    np.testing.assert_allclose(prefix.weights, soft_mask(10, 2, 6))
    assert (prefix.weights[6:] == 0).all()


def test_no_prefix_without_overlap():
    assert RealTimeChunking().prefix(ChunkBuffer(3), 0.0, 1, 10, 4) is None
    buffer, _ = filled(1, horizon=10)
    assert RealTimeChunking().prefix(buffer, 10 * STEP, 1, 10, 4) is None


def test_unknown_stitcher_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'ensemble'"):
        stitcher_by_name("ensembel")
