"""Reports escape what they are given; videos decode to what was written."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from diffbot.errors import DataError
from diffbot.evaluation.figures import loss_curves, signals, success_bars, timing_histogram
from diffbot.evaluation.report import Report
from diffbot.evaluation.video import contact_sheet, write_video


def test_page_escapes_text_and_inlines_figures(tmp_path: Path) -> None:
    report = Report("<script>alert(1)</script>")
    report.table(("a", "b"), [("<b>", 1)])
    report.figure(loss_curves({"loss": ([1, 2], [1.0, 0.5])}), "curve")
    report.figure(success_bars({"x": (0.9, 0.8, 0.95)}), "bars")
    report.figure(timing_histogram({"x": [1.0, 2.0]}, "ms"), "timing")
    report.figure(signals(np.arange(3.0), np.zeros((3, 2)), (), np.array([1.0])), "signals")
    report.write(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "<td><b></td>" not in page
    assert page.count("data:image/png;base64,") == 4


def test_video_round_trip(tmp_path: Path) -> None:
    shades = [40, 120, 200]
    write_video(tmp_path / "v.mp4", [np.full((32, 48, 3), s, np.uint8) for s in shades], 10)
    with av.open(str(tmp_path / "v.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [round(frame.mean()) for frame in decoded] == pytest.approx(shades, abs=4)
    assert decoded[0].shape == (32, 48, 3)


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frames"):
        write_video(tmp_path / "v.mp4", [], 10)
    with pytest.raises(DataError, match="even sides"):
        write_video(tmp_path / "v.mp4", [np.zeros((31, 48, 3), np.uint8)], 10)


def test_contact_sheet_has_one_row_an_episode() -> None:
    episode = [np.full((4, 4, 3), i, np.uint8) for i in range(10)]
    sheet = contact_sheet([episode, episode], columns=3)
    assert sheet.shape == (8, 12, 3)
    assert sheet[0, 0, 0] == 0 and sheet[0, -1, 0] == 9
