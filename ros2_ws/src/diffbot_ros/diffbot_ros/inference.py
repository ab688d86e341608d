"""The one thread in which the policy thinks. Everything else only hands it frames."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from diffbot.control import Chunk, ChunkBuffer, DelayEstimate, PolicyRunner
from diffbot.control.stitch import Stitcher
from diffbot_ros.align import Frame
from diffbot_ros.trace import Trace

BELIEVABLE_S = 2.0  # longest delay that is taken for one
START_TOLERANCE = 1e-3  # of a step: stamps are rounded to nanoseconds


class InferenceLoop:
    """Turns frames into chunks: observes each frame in order and infers every `replan` steps.

    publish(chunk, episode seed, inference seconds) and fail(message) are called from the thread.
    clock: the time in seconds that frames are stamped with; it measures the delay that stitching has to bridge.
    traces: folder for one trace per episode, or None.
    """

    def __init__(
        self,
        runner: PolicyRunner,
        buffer: ChunkBuffer,
        stitcher: Stitcher,
        step: float,
        replan: int,
        publish: Callable[[Chunk, int, float], None],
        fail: Callable[[str], None],
        clock: Callable[[], float],
        traces: Path | None = None,
    ) -> None:
        self._runner, self._buffer, self._stitcher = runner, buffer, stitcher
        self._step, self._replan = step, replan
        self._publish, self._fail, self._clock, self._traces = publish, fail, clock, traces
        self._condition = threading.Condition()
        self._work: deque[Frame | int] = deque()
        self._stopping = False
        self._generation = 0
        self._thread: threading.Thread | None = None
        self._trace: Trace | None = None
        self._seed = 0
        self._due: float | None = None
        self._delay = DelayEstimate(step)
        self.durations: deque[float] = deque(maxlen=1000)
        self.thinking_since: float | None = None

    def start(self, seed: int = 0) -> None:
        """Start the thread with an episode of this seed."""
        self._stopping = False
        self.reset(seed)
        self._thread = threading.Thread(target=self._loop, name="inference", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """End the thread and save its trace; False when the network did not return in time."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        ended = not self._thread.is_alive()
        self._thread = None
        return ended

    def reset(self, seed: int) -> None:
        """Begin an episode: frames of the previous one that still wait are dropped, and so is a chunk in the making."""
        with self._condition:
            self._generation += 1
            self._work.clear()
            self._work.append(int(seed))
            self._condition.notify()

    def push(self, frame: Frame) -> None:
        """Hand over a frame; never waits for the network."""
        with self._condition:
            self._work.append(frame)
            self._condition.notify()

    def hurry(self) -> None:
        """Infer on the next frame, whether a chunk is due or not: what was planned has been thrown away."""
        with self._condition:
            self._due = None

    # In the thread ----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            with self._condition:
                while not self._work and not self._stopping:
                    self._condition.wait()
                if self._stopping:
                    self._save()
                    return
                work, generation = list(self._work), self._generation
                self._work.clear()
            try:
                self._advance(work, generation)
            except Exception as error:
                # A thread that dies would leave a robot without chunks and nobody who says why.
                self._fail(f"inference failed: {type(error).__name__}: {error}")

    def _advance(self, work: list[Frame | int], generation: int) -> None:
        newest: Frame | None = None
        for item in work:
            if isinstance(item, int):
                self._begin(item)
                newest = None
                continue
            self._runner.observe(item.values, item.time)
            if self._trace is not None:
                self._trace.observe(item.values, item.time)
            newest = item
        if newest is None or (self._due is not None and newest.time < self._due):
            return
        self._infer(newest, generation)

    def _infer(self, frame: Frame, generation: int) -> None:
        prefix = self._stitcher.prefix(
            self._buffer, frame.time, self._delay.steps, self._runner.horizon, self._replan
        )
        if self._trace is not None:
            self._trace.infer(prefix)
        self.thinking_since = begin = time.monotonic()
        chunk = self._runner.infer(prefix)
        duration = time.monotonic() - begin
        self.thinking_since = None
        self.durations.append(duration)
        due = frame.time + self._replan * self._step
        self._due = due - START_TOLERANCE * self._step
        if generation != self._generation:
            return  # the episode ended meanwhile
        delay = self._clock() - frame.time
        # Stamps of another clock (a recorded episode) say nothing about the delay; what thinking took is known.
        delay = delay if 0.0 <= delay <= BELIEVABLE_S else duration
        self._delay.add(delay)
        self._buffer.push(chunk, chunk.start + delay)
        if self._buffer.latest is not None:  # before its start there is nothing yet to continue
            self._due = max(due, self._buffer.latest.start) - START_TOLERANCE * self._step
        self._publish(chunk, self._seed, duration)

    def _begin(self, seed: int) -> None:
        self._save()
        self._seed, self._due = seed, None
        self._delay = DelayEstimate(self._step)
        self._buffer.clear()
        self._runner.reset(seed)
        self._trace = Trace(seed) if self._traces is not None else None

    def _save(self) -> None:
        if self._trace is not None and self._traces is not None and self._trace.inferences:
            path = self._traces / f"episode_{self._seed:08d}.npz"
            again = 1
            while path.exists():
                path = path.with_name(f"episode_{self._seed:08d}_{again}.npz")
                again += 1
            try:
                self._trace.save(path)
            except OSError as error:  # a full disk: the next episode begins all the same, untraced
                self._traces = None
                self._fail(f"the trace of episode {self._seed} cannot be written, tracing ends: {error}")
        self._trace = None
