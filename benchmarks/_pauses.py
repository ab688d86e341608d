"""When the machine itself stood still: on each core a watcher at the highest real-time priority that wakes every 2 ms.

Nothing that runs under the kernel may keep such a watcher waiting, so where it wakes late its core was not running: a
hypervisor had given it to somebody else, or the firmware had it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import TracebackType

import numpy as np

PERIOD_S = 0.002
LATE_S = 0.001  # a pause; without one a watcher is late by some 0.1 ms
PRIORITY = 99


class Pauses:
    """A context manager; after it `intervals` holds start and end [n, 2] of all pauses, in s of the monotonic clock.

    Raises OSError on entering where real-time priority is not allowed.
    """

    def __init__(self) -> None:
        self.intervals = np.zeros((0, 2))
        self._watchers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Pauses:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))  # may it be asked for?
        os.sched_setscheduler(0, *before)
        for core in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, "-I", __file__, str(core)]
            self._watchers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watcher in self._watchers:
            watcher.send_signal(signal.SIGTERM)
        lines = [line for watcher in self._watchers for line in watcher.communicate()[0].splitlines()]
        if lines:
            self.intervals = np.array([[float(part) for part in line.split()] for line in lines])

    def meet(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Which of the spans from `starts` to `ends` [n] (s of the monotonic clock) a pause falls into, bool [n]."""
        order = np.argsort(self.intervals[:, 0])
        begin, until = self.intervals[order, 0], np.maximum.accumulate(self.intervals[order, 1])
        before = np.searchsorted(begin, ends, side="right") - 1  # the last pause that begins before the end
        return (
            (before >= 0) & (until[np.maximum(before, 0)] >= starts)
            if len(begin)
            else np.zeros(len(starts), bool)
        )


def watch(core: int) -> None:
    """Note when this core stood still until SIGTERM or the end of the parent; then print it."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    parent, found = os.getppid(), []
    due = time.monotonic() + PERIOD_S
    while not stopping and os.getppid() == parent:
        time.sleep(max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if now - due > LATE_S:
            found.append((due, now))
        due = max(due, now) + PERIOD_S
    for start, end in found:
        print(start, end)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
