"""Pauses of the machine: which spans they fall into, and the watchers as processes."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._pauses import LATE_S, Pauses

times = st.floats(0.0, 100.0)
spans = st.lists(st.tuples(times, st.floats(0.0, 10.0)), max_size=12)


@given(spans, spans.filter(bool))
def test_a_span_is_met_by_what_overlaps_it(
    pauses: list[tuple[float, float]], asked: list[tuple[float, float]]
) -> None:
    found = Pauses()
    found.intervals = np.array([(s, s + d) for s, d in pauses]).reshape(-1, 2)
    starts, lengths = np.array(asked).T
    expected = [any(s <= b + d and s + w >= b for s, w in pauses) for b, d in asked]
    assert found.meet(starts, starts + lengths).tolist() == expected


def test_watchers_end_and_tell_only_of_late_wakes() -> None:
    try:
        with Pauses() as pauses:
            begin = time.monotonic()
            time.sleep(0.3)
            watchers = list(pauses._watchers)
    except PermissionError:
        pytest.skip("real-time priority is not allowed here")
    assert len(watchers) == len(os.sched_getaffinity(0)) and all(w.returncode == 0 for w in watchers)
    assert (np.diff(pauses.intervals, axis=1) > LATE_S).all()
    assert (pauses.intervals > begin - 1.0).all() and os.sched_getscheduler(0) == os.SCHED_OTHER
