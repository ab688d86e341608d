"""Scripted faults against running nodes: does the arm stay inside its limits, hold in time, say why, and recover?

A point arm, a policy node and an executor node run over DDS. Each fault is done to them while the arm follows a chunk.

limit_violations: commands that break a position, velocity, acceleration or jerk limit, from their finite differences.
late_holds: faults that call for a hold and whose first stopping command comes later than the time after which the fault
can be known, by the limits given to the nodes, plus two control periods. silent: faults of which neither a command, a
status nor the diagnostics tells the reason. unrecovered: faults after whose end the arm does not follow again.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffbot_ros.isolation import Domain, node_environment

from benchmarks._fault_cases import FAULTS, Fault
from benchmarks._fault_rig import HOLDING, Rig, rig, violations
from diffbot.errors import DiffbotError, unknown
from diffbot.evaluation.bench import BenchResult

SUMMARY = "scripted faults against the ROS 2 nodes: limits kept, holds in time, reasons given"
WATCH_S = 1.2


@dataclass(frozen=True)
class Config:
    """Which faults, and at which rate."""

    rate: float = 50.0  # Hz of control
    only: str = ""  # names that contain one of these texts, separated by commas
    patience: float = 60.0  # s to recover in
    transport: float = (
        0.02  # s granted for the way of a fault and of the answer through DDS, besides two periods
    )


def run(config: Config) -> BenchResult:
    """Every fault in turn on one running system."""
    chosen = [fault for fault in FAULTS if any(text in fault.name for text in config.only.split(","))]
    if not chosen:
        raise unknown("fault", config.only, [fault.name for fault in FAULTS])
    with tempfile.TemporaryDirectory(prefix="diffbot-bench-faults-") as folder, Domain() as domain:
        environment = node_environment(domain.id, Path(folder) / "log")
        environment["OMP_NUM_THREADS"] = "1"
        os.environ.update({k: v for k, v in environment.items() if k.startswith(("ROS_", "FASTRTPS_"))})
        with rig(Path(folder), environment, config.rate) as system:
            rows = [_one(system, fault, config) for fault in chosen]
    figures = {
        "faults": len(rows),
        "limit_violations": sum(len(row["violations"]) for row in rows),
        "late_holds": sum(row["late"] for row in rows),
        "silent": sum(row["silent"] for row in rows),
        "unrecovered": sum(not row["recovered"] for row in rows),
    }
    for row in rows:
        row["violations"] = "; ".join(row["violations"])
    return BenchResult(figures, rows, notes=(__doc__ or "").split("\n\n", 1)[1].strip())


def _one(system: Rig, fault: Fault, config: Config) -> dict[str, Any]:
    """Do one fault, watch, end it, and wait for recovery."""
    probe = system.probe
    clean = fault.prepare(system) if fault.prepare is not None else None
    try:
        system.wait_following(config.patience)
    except DiffbotError:
        if fault.prepare is not None:
            raise
        system.renew()
        system.wait_following(config.patience)
    for record in (probe.chunks, probe.policy):
        del record[:-1]
    probe.commands.clear()
    before = _counters(system, fault)
    begin = time.monotonic()
    undo = fault.do(system)
    done = time.monotonic()
    needed = fault.known_after + 2.0 / config.rate + config.transport
    hold = _first_hold(
        system, fault, begin, max(WATCH_S, needed + 0.5) if fault.expect == "hold" else WATCH_S
    )
    told, reason = _told(system, fault, hold, before)
    undo()
    recovered = True
    try:
        system.wait_following(config.patience)
    except DiffbotError:
        recovered = False
    system.arm.edit = None
    commands = list(probe.commands)
    if clean is not None:
        clean()
    delay = (
        None
        if hold is None
        else hold[0] - (done if fault.expect == "hold" and not fault.known_after else begin)
    )
    late = fault.expect == "hold" and (delay is None or delay > needed)
    return {
        "fault": fault.name,
        "expect": fault.expect,
        "reason": reason,
        "hold_ms": "" if delay is None else round(1e3 * max(0.0, delay), 1),
        "allowed_ms": round(1e3 * needed, 1) if fault.expect == "hold" else "",
        "late": late,
        "silent": not told,
        "recovered": recovered,
        "violations": violations(commands, config.rate),
    }


def _first_hold(system: Rig, fault: Fault, begin: float, patience: float) -> tuple[float, str] | None:
    """Arrival and reason of the first stopping command after `begin` whose reason fits, waiting up to `patience` s."""

    def held() -> Iterable[tuple[float, str]]:
        for arrival, message in list(system.probe.commands):
            fits = fault.expect != "hold" or re.search(fault.reason, message.reason)
            if arrival >= begin and message.status in HOLDING and fits:
                yield arrival, message.reason

    try:
        system.probe.wait(lambda: any(True for _ in held()), patience)
    except DiffbotError:
        return None
    return next(iter(held()))


def _counters(system: Rig, fault: Fault) -> int:
    return sum(system.counter(name) for name in fault.reason.split("|")) if fault.expect == "count" else 0


def _told(system: Rig, fault: Fault, hold: tuple[float, str] | None, before: int) -> tuple[bool, str]:
    """Whether somebody said what is wrong, and in which words."""
    probe = system.probe
    if fault.expect == "hold":
        return hold is not None, hold[1] if hold else ""
    if fault.expect == "count":
        try:
            probe.wait(lambda: _counters(system, fault) > before, 5.0)
        except DiffbotError:
            return False, ""
        return True, f"counter {fault.reason}"
    if fault.expect == "report":
        try:
            probe.wait(lambda: fault.reason in probe.diagnostics[fault.where].message, fault.known_after + 10)
        except DiffbotError:
            return False, ""
        return True, probe.diagnostics[fault.where].message
    if fault.expect == "limit":
        reasons = {message.reason for _, message in list(probe.commands) if message.reason}
        return bool(reasons), ", ".join(sorted(reasons))
    if fault.expect == "gone":
        return True, "no commands: the node is not there"
    return True, "goes on"
