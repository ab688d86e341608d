"""The benchmark of the nodes gives all its figures; their size is judged on an idle machine."""

from __future__ import annotations

import pytest

from benchmarks import ros

pytestmark = [pytest.mark.ros, pytest.mark.slow]


def test_short_run_gives_every_figure() -> None:
    config = ros.Config(duration=3.0, rate=50.0, inference_steps=3, image_duration=3.0)
    figures = ros.run(config).figures
    for name in ("latency_p50_ms", "latency_p99_ms", "jitter_p99_ms", "missed", "repeated", "image_loss"):
        assert figures[name] == figures[name], f"{name} is not a number"
    assert figures["repeated"] == 0
    assert 100 < figures["commands"] <= 152
    assert figures["chunks"] > 50
    assert 0 < figures["latency_p50_ms"] < 100
    assert figures["images"] >= 80
