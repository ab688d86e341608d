"""The executor among running nodes: faults end in a hold with a reason, limits hold, and everything recovers."""

from __future__ import annotations

import pytest

from benchmarks import faults
from benchmarks._fault_cases import FAULTS

pytestmark = pytest.mark.ros


def test_faults_hold_say_why_and_recover() -> None:
    """A part of the benchmark; how soon is measured there, on a machine that does nothing else."""
    only = "observation NaN,policy hung,contract,far outside,emergency,disk full"
    result = faults.run(faults.Config(only=only))
    assert result.figures["faults"] == 6
    assert result.figures["limit_violations"] == 0, result.rows
    assert result.figures["silent"] == 0, result.rows
    assert result.figures["unrecovered"] == 0, result.rows
    reasons = {row["fault"]: row["reason"] for row in result.rows}
    assert "NaN" in reasons["observation NaN"]
    assert reasons["emergency stop"] == "estop"
    assert "recording ended" in reasons["disk full while recording"]


@pytest.mark.slow
def test_two_policies_and_a_cut_network() -> None:
    """The arm holds while it is told two things, and while nothing reaches it, and goes on afterwards."""
    result = faults.run(faults.Config(only="two policies,cut off,replaced"))
    assert result.figures["faults"] == 3
    for figure in ("limit_violations", "silent", "unrecovered"):
        assert result.figures[figure] == 0, result.rows
    reasons = {row["fault"]: row["reason"] for row in result.rows}
    assert "/policy-" in reasons["two policies on one topic"]
    assert "/rival/policy-" in reasons["two policies on one topic"]


def test_the_list_of_faults_is_long_enough_and_has_no_doubles() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 37
