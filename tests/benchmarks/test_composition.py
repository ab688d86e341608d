"""The composition benchmark at a size of seconds, and what the planners' benchmark refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import composition
from diffbot.errors import ConfigError


def test_every_set_of_conditions_is_planned_measured_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "composition.png"
    config = composition.Config(paths=60, steps=3, batch_size=16, samples=8, figure=str(picture))
    result = composition.run(config)
    assert [row["asked for"] for row in result.rows] == list(composition.ASKED)
    for row in result.rows:
        assert 0.0 <= row["both_kept"] <= min(row["first_kept"], row["second_kept"]) <= 1.0
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_an_unknown_robot_is_refused() -> None:
    pytest.importorskip("rclpy")
    from benchmarks import planners_ros

    with pytest.raises(ConfigError, match="Did you mean 'maze'"):
        planners_ros.run(planners_ros.Config(only="maz"))
