"""The thread that thinks: what goes wrong beside the network is told and does not stop it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from diffbot_ros.align import Frame
from diffbot_ros.episodes import signals_later
from diffbot_ros.inference import InferenceLoop

from diffbot.control import ChunkBuffer, stitcher_by_name
from diffbot.control.load import load_runner


def test_a_trace_that_cannot_be_written_ends_tracing_alone(point_policy: Path, tmp_path: Path) -> None:
    """The next episode has chunks of its own although the folder for traces is a file."""
    folder = tmp_path / "traces"
    folder.write_text("not a folder")
    runner = load_runner(point_policy, seed=0, backend="auto")
    chunks: list[int] = []
    told: list[str] = []
    clock = [0.0]  # the robot's: frames are stamped and chunks arrive by the same one
    loop = InferenceLoop(
        runner,
        ChunkBuffer(2, runner.contract.hash()),
        stitcher_by_name("switch"),
        0.05,
        8,
        lambda chunk, episode, duration: chunks.append(episode),
        told.append,
        lambda: clock[0],
        folder,
    )
    loop.start(3)
    for episode in (3, 4):
        values = {key: np.zeros(2, np.float32) for key in ("position", "goal")}
        for step in range(9):
            clock[0] = 100.0 * episode + 0.05 * step
            loop.push(Frame(clock[0], values))
            deadline = time.monotonic() + 30
            while step in (0, 8) and chunks.count(episode) < 1 + step // 8:
                assert time.monotonic() < deadline, (chunks, told)
                time.sleep(0.005)
        loop.reset(4)
    assert loop.stop()
    assert chunks == [3, 3, 4, 4]
    assert len(told) == 1 and "trace of episode 3 cannot be written" in told[0]


def test_a_signal_waits_until_a_message_is_taken() -> None:
    """An exception of a handler must not rise inside a call into C++, which turns it into another error."""
    done = []

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(KeyboardInterrupt), signals_later():
            signal.raise_signal(signal.SIGTERM)  # `os.kill` may choose another thread, which runs later
            time.sleep(0.01)
            done.append("the block ran to its end")
        assert done and signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
