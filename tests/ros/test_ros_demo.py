"""`diffbot ros demo`: the whole loop in three processes, verified, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks._point_robot import task_bundle
from diffbot.cli.main import main
from diffbot.evaluation.statistics import wilson_interval

TASK = "pusht/state"


@pytest.fixture(scope="session")
def pusht_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has seen Push-T for a moment: it moves, it does not solve."""
    pytest.importorskip("mujoco")
    return task_bundle(tmp_path_factory.mktemp("pusht"), TASK)


def command(policy: Path, out: Path, *more: str) -> list[str]:
    arguments = ["ros", "demo", f"policy={policy}", f"out={out}", "rate_scale=6", *more]
    return [sys.executable, "-m", "diffbot.cli.main", *arguments]


def processes_of(marker: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "diffbot_ros." in line and marker in line:
                found.append(int(entry.name))
    return found


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("*fastrtps*")}


@pytest.mark.ros
def test_demo_closes_the_loop_and_verifies_it(pusht_policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "ros"
    done = subprocess.run(
        command(pusht_policy, out, "episodes=2"), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((out / "ros.json").read_text())
    assert record["seeds"] == [100000, 100001]
    assert record["ros.chunks_equal"] is True
    assert record["ros.steps"] == 600 or record["ros.success"] > 0
    # a chunk has 16 steps and is meant to be followed for 8; a loaded machine is late at 6 times the rate
    assert record["ros.chunks"] > record["ros.steps"] / 16
    wins = sum(row["success"] for row in record["rows"])
    assert record["ros.interval"] == [round(v, 4) for v in wilson_interval(wins, 2)]
    assert 0 < record["ros.inference_p50_ms"] <= record["ros.latency_p99_ms"]
    assert not processes_of(str(pusht_policy))


@pytest.mark.ros
def test_demo_interrupted_leaves_nothing(pusht_policy: Path, tmp_path: Path) -> None:
    before = shared_memory()
    out = tmp_path / "ros"
    process = subprocess.Popen(
        command(pusht_policy, out, "episodes=500"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("traces/episode_*.npz")):  # the first episode is over: all nodes are at work
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors and "Traceback" not in errors
    assert not processes_of(str(pusht_policy))
    assert shared_memory() <= before


def test_missing_ros_is_one_clear_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("rclpy", "diffbot_msgs.msg"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            assert main(["ros", "demo", "policy=nowhere"]) == 2
        words = capsys.readouterr().err
        assert words.count("error:") == 1 and "Install" in words and module.split(".")[0] in words


def test_missing_bundle_is_one_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ros", "demo", "policy=nowhere"]) == 2
    assert "no policy bundle at 'nowhere'" in capsys.readouterr().err


def test_unknown_graph_and_missing_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ros", "up", "graph=simulatoin"]) == 2
    assert "Did you mean 'simulation'?" in capsys.readouterr().err
    assert main(["ros", "up", "graph=robot"]) == 2
    assert "needs policy=" in capsys.readouterr().err
