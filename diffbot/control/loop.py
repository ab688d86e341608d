"""Asynchronous receding-horizon control in simulated time, with the semantics of the ROS nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from diffbot.control.chunk import Chunk
from diffbot.control.controller import Command, Controller
from diffbot.control.latency import DelayEstimate, Latency
from diffbot.control.stitch import CommittedPrefix

TOLERANCE = 1e-6


class Runner(Protocol):
    """What the loop asks of a policy; `PolicyRunner` is one."""

    period: float

    @property
    def horizon(self) -> int: ...

    def reset(self, episode_seed: int, start: float | None = None) -> None: ...

    def observe(self, observation: Mapping[str, np.ndarray], time: float) -> bool: ...

    def infer(self, prefix: CommittedPrefix | None = None) -> Chunk: ...


class ControlLoop:
    """Steps policy and controller tick by tick; the robot never waits for the network.

    At a tick: measured observations that have travelled long enough reach the policy; a chunk whose inference time has
    passed reaches the controller; when the policy is idle and `action_horizon` steps have passed since the last inference
    began (fewer where the chunk would run out before the next arrives), it starts on the newest observation; the
    controller gives its command, which takes effect after the actuation delay.

    An absolute action has no neutral value: unless the robot's position is given, the episode begins when the first chunk is
    there, so the first observation, chunk and command are not delayed. Delta actions wait with zero motion.

    Delays come from `latency`, drawn with a generator seeded by (seed, episode seed). They are simulated: the wall-clock
    time of `infer` does not matter here. The delay that the stitcher is told is the one measured so far.
    """

    def __init__(
        self, runner: Runner, controller: Controller, latency: Latency | None = None, seed: int = 0
    ) -> None:
        self.runner = runner
        self.controller = controller
        self.latency = latency or Latency()
        self.seed = seed
        self.reset(0)

    def reset(
        self, episode_seed: int, start: float | None = None, position: np.ndarray | None = None
    ) -> None:
        """Begin an episode; `position` as in `Controller.reset`."""
        self.runner.reset(episode_seed, start)
        self.controller.reset(position)
        self.rng = np.random.default_rng([self.seed, episode_seed, 0x1A7])
        # In simulated time no inference is cold: the first delay is as good as the next.
        self.delay = DelayEstimate(self.runner.period, cold=0, initial=self._expected())
        self._travelling: deque[tuple[float, float, Mapping[str, np.ndarray]]] = deque()
        self._acting: deque[tuple[float, Command]] = deque()
        self._in_flight: tuple[float, Chunk] | None = None
        self._effective: Command | None = None
        self._last_start: float | None = None
        self._seen = False
        space = self.controller.space
        self._can_wait = position is not None or bool((space.relative | space.gripper).all())
        self._rest = space.hold(position)
        self.chunks: list[Chunk] = []

    def tick(self, observation: Mapping[str, np.ndarray], now: float) -> Command:
        """One control step: the observation measured at `now` (s) in, the command that takes effect now out."""
        must_start = not self._can_wait and not self._seen
        if not self.latency.dropped(self.rng) or must_start:
            arrives = now if must_start else now + self.latency.sample("observation", self.rng)
            self._travelling.append((arrives, now, observation))
        self._deliver_observations(now)
        self._deliver_chunk(now)
        if self._due(now):
            self._start_inference(now)
            self._deliver_chunk(now)
        command = self.controller.command(now)
        self._acting.append((now + self.latency.sample("actuation", self.rng), command))
        while self._acting and self._acting[0][0] <= now + TOLERANCE:
            self._effective = self._acting.popleft()[1]
        if self._effective is not None:
            return self._effective
        if not self._can_wait:
            return self._acting[0][1]
        return Command(self._rest, "hold", "actuation_delay", -1, -1, now)

    def _deliver_observations(self, now: float) -> None:
        while self._travelling and self._travelling[0][0] <= now + TOLERANCE:
            _, stamp, observation = self._travelling.popleft()
            if self.runner.observe(observation, stamp):
                self.controller.observe(stamp, observation)
                self._seen = True

    def _deliver_chunk(self, now: float) -> None:
        if self._in_flight is not None and self._in_flight[0] <= now + TOLERANCE:
            ready, chunk = self._in_flight
            self._in_flight = None
            if self._can_wait or len(self.chunks) > 1:
                self.delay.add(ready - chunk.start)
            self.controller.push(chunk, now)

    def _due(self, now: float) -> bool:
        if self._in_flight is not None or not self._seen:
            return False
        latest = self.controller.buffer.latest
        if self._last_start is None or latest is None:
            return True
        if self.runner_time(now) < latest.start - TOLERANCE:
            return False  # seen before the first chunk moved the robot: there is nothing yet to continue
        usable = self.runner.horizon - self.delay.steps
        period = max(1, min(self.controller.action_horizon, usable)) * self.runner.period
        return now - self._last_start >= period - TOLERANCE

    def _start_inference(self, now: float) -> None:
        start = self.runner_time(now)
        prefix = self.controller.prefix(start, self.delay.steps, self.runner.horizon)
        chunk = self.runner.infer(prefix)
        self.chunks.append(chunk)
        first = self._last_start is None
        self._last_start = now
        delay = 0.0 if first and not self._can_wait else self.latency.sample("inference", self.rng)
        self._in_flight = (now + delay, chunk)

    def runner_time(self, now: float) -> float:
        """Stamp of the newest observation that the policy has seen, s."""
        stamp = self.controller.observation_time
        return now if stamp is None else stamp

    def _expected(self) -> float:
        return self.latency.observation + self.latency.inference
