"""Intervals against closed forms, scipy and their own coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffbot.evaluation.statistics import mean_interval, overlap, wilson_interval


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(counts: tuple[int, int]) -> None:
    k, n = counts
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_mean_interval_covers_the_mean_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        _, low, high = mean_interval(list(rng.normal(3.0, 2.0, size=3)))
        hits += low <= 3.0 <= high
    assert 0.935 <= hits / 2000 <= 0.965


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(5, 4)
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0])


def test_overlap() -> None:
    assert overlap((0.0, 0.5), (0.5, 1.0))
    assert not overlap((0.0, 0.4), (0.5, 1.0))
