"""How the online half of S1 is judged."""

from __future__ import annotations

import pytest

from benchmarks._rows import Outcome, Results
from benchmarks.rows._s1_online import judge_online
from benchmarks.rows.s1 import judge


def results(sac: float, sac_utd: float, sac_synther: float, offline: float = 1.0) -> Results:
    """Thousands of steps of each arm, on average over two seeds; `offline`: what half and synthetic is above all."""
    online = {"sac": sac, "sac_utd": sac_utd, "sac_synther": sac_synther}
    found = {
        ("online_task", arm): {
            seed: Outcome(-steps + shift, figures={"reached": 1.0}) for seed, shift in enumerate((0.5, -0.5))
        }
        for arm, steps in online.items()
    }
    scores = {"all": 50.0, "half": 40.0, "half_synther": 50.0 + offline}
    for learner in ("td3_bc", "iql"):
        found |= {("maze", f"{learner}_{source}"): {0: Outcome(score)} for source, score in scores.items()}
    return Results(found)


@pytest.mark.parametrize(
    ("given", "holds", "words"),
    [
        ((9.0, 6.0, 5.0), True, "fewer than sac; fewer than sac_utd"),
        ((9.0, 5.0, 6.0), False, "fewer than sac; not fewer than sac_utd"),
        ((9.0, 6.0, 6.0), False, "fewer than sac; not fewer than sac_utd"),
        ((4.0, 6.0, 5.0), False, "not fewer than sac; fewer than sac_utd"),
    ],
)
def test_synthesis_must_beat_both_opponents(
    given: tuple[float, float, float], holds: bool, words: str
) -> None:
    found, text = judge_online(results(*given))
    assert found is holds
    assert words in text and f"sac_synther {given[2]:.2f}" in text


def test_both_halves_are_stated() -> None:
    assert judge(results(9.0, 6.0, 5.0)).holds
    verdict = judge(results(9.0, 6.0, 5.0, offline=-1.0))
    assert not verdict.holds and verdict.why.startswith("Offline does not hold, online holds.")
    verdict = judge(results(9.0, 5.0, 6.0))
    assert not verdict.holds and verdict.why.startswith("Offline holds, online does not hold.")
    assert "td3_bc: all 50.0, half 40.0, half and synthetic 51.0" in verdict.why
