"""Alignment of topics by their stamps."""

from __future__ import annotations

import numpy as np
import pytest
from diffbot_ros.align import Aligner, RefusedError
from hypothesis import given
from hypothesis import strategies as st


def value(number: float) -> np.ndarray:
    return np.array([number], np.float32)


@given(st.permutations(["a", "b", "c"]), st.integers(1, 20))
def test_equal_stamps_give_every_step_once_in_any_order(order: list[str], steps: int) -> None:
    aligner = Aligner(("a", "b", "c"), 0.05)
    times = [k * 0.05 for k in range(steps)]
    frames = [aligner.push(key, t, value(t)) for t in times for key in order]
    complete = [frame for frame in frames if frame is not None]
    assert [frame.time for frame in complete] == times
    assert all(v == np.float32(f.time) for f in complete for v in f.values.values())


def test_a_faster_topic_gives_its_newest_value_and_does_not_add_frames() -> None:
    aligner = Aligner(("joints", "camera"), 0.05)
    frames = []
    for tick in range(200):  # 500 Hz and 20 Hz
        t = tick * 0.002
        frames.append(aligner.push("joints", t, value(t)))
        if tick % 25 == 0:
            frames.append(aligner.push("camera", t, value(t)))
    complete = [frame for frame in frames if frame is not None]
    assert len(complete) == 8
    for frame in complete:
        assert frame.time - 0.002 <= float(frame.values["joints"][0]) <= frame.time + 1e-6


def test_a_30_hz_camera_serves_a_20_hz_grid_on_average() -> None:
    aligner = Aligner(("camera",), 0.05)
    times = [f.time for k in range(300) if (f := aligner.push("camera", k / 30, value(k))) is not None]
    assert len(times) == pytest.approx(200, abs=2)


def test_no_frame_from_the_future_of_a_slow_topic() -> None:
    aligner = Aligner(("a", "b"), 0.05, max_age=0.2)
    assert aligner.push("a", 1.0, value(1)) is None
    frame = aligner.push("b", 1.3, value(2))
    assert frame is None, "b is newer than the frame and there is no older b"
    assert aligner.oldest() == ("a", 1.0)


def test_old_stamps_are_refused_repeated_ones_ignored() -> None:
    aligner = Aligner(("a",), 0.05)
    assert aligner.push("a", 1.0, value(1)) is not None
    assert aligner.push("a", 1.0, value(1)) is None
    with pytest.raises(RefusedError, match="not newer"):
        aligner.push("a", 0.9, value(0))
    aligner.reset()
    assert aligner.push("a", 0.9, value(0)) is not None
