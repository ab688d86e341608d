"""The thread in which a simulated robot lives: it paces, waits for commands and steps; rendering stays in one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diffbot.control import ActionSpace
from diffbot.data.contract import Contract

START_NS = 1_000_000_000  # a clock of zero means "not yet" in ROS
REPEAT_S = 0.5


class SimulatedRobot:
    """Runs episodes of an environment against commands that come from elsewhere.

    build: makes the environment, called in the thread. observe(values, time in ns) publishes observations and clock;
    finish(seed, success, steps, held, return) reports the end of an episode.
    rate_scale: simulated seconds per second. lockstep: wait up to `command_timeout` s (wall time) for the command of a
    step; without it, or when none comes, the robot holds. The clock stands still until an episode's first command.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        observe: Callable[[Mapping[str, np.ndarray], int], None],
        finish: Callable[[int, bool, int, int, float], None],
        rate_scale: float,
        lockstep: bool,
        command_timeout: float,
    ) -> None:
        self._build, self._observe, self._finish = build, observe, finish
        self._rate_scale, self._lockstep, self._timeout = rate_scale, lockstep, command_timeout
        self._condition = threading.Condition()
        self._command: tuple[int, np.ndarray] | None = None
        self._seed: int | None = None
        self._stopping = False
        self._ready = threading.Event()
        self._reset_done = threading.Event()
        self._error: Exception | None = None
        self.time_ns = START_NS
        self.late = 0
        self.contract: Contract | None = None
        self._env: Any = None
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)

    def start(self) -> Contract:
        """Build the environment; returns its contract. Raises what building raised."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        assert self.contract is not None
        return self.contract

    def stop(self) -> None:
        """End the thread and close the environment."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join()

    def command(self, stamp_ns: int, action: np.ndarray) -> None:
        """Take a command for the step at `stamp_ns`."""
        with self._condition:
            self._command = (stamp_ns, action)
            self._condition.notify_all()

    def reset(self, seed: int, timeout: float = 60.0) -> int:
        """Begin an episode; returns the time of its first observation in ns. Raises TimeoutError."""
        self._reset_done.clear()
        self.begin(seed)
        if not self._reset_done.wait(timeout):
            raise TimeoutError(f"the environment did not reset within {timeout:g} s")
        return self.time_ns

    def begin(self, seed: int) -> None:
        """Begin an episode without waiting for it."""
        with self._condition:
            self._seed, self._command = seed, None
            self._condition.notify_all()

    # In the thread ----------------------------------------------------------------------------------------------

    def state(self) -> np.ndarray:
        """The simulator's whole state, float64 [N]; to be called from `observe`."""
        return np.asarray(self._env.unwrapped.get_state(), np.float64)

    def _run(self) -> None:
        try:
            self._env = env = self._build()
            self.contract = Contract.from_dict(env.unwrapped.contract())
        except Exception as error:
            self._error = error
            self._ready.set()
            return
        self._ready.set()
        self._space = ActionSpace.from_action(self.contract.action)
        self._period_ns = round(1e9 / self.contract.rate)
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(lambda: self._stopping or self._seed is not None)
                    if self._stopping:
                        return
                    seed, self._seed = self._seed, None
                assert seed is not None
                self._episode(env, seed)
        finally:
            env.close()

    def _episode(self, env: Any, seed: int) -> None:
        observation, _ = env.reset(seed=seed)
        self.time_ns += self._period_ns
        self._observe(observation, self.time_ns)
        self._reset_done.set()
        if not self._wait_for_first(observation):
            return
        steps = held = 0
        total, success, over = 0.0, False, False
        last: np.ndarray | None = None
        wall = self._period_ns / 1e9 / self._rate_scale
        deadline = time.monotonic() + wall
        while not over:
            action = self._next_command(deadline)
            if self._interrupted():
                return
            if action is None:
                held += 1
                action = self._space.hold(last)
            last = action
            observation, reward, terminated, truncated, info = env.step(action)
            steps += 1
            total += float(reward)
            success = success or bool(info["success"])
            over = bool(success or terminated or truncated)  # the evaluator's rule
            self._pause_until(deadline)
            now = time.monotonic()
            self.late += now > deadline + 0.5 * wall
            deadline = max(deadline, now - 0.5 * wall) + wall  # time that was lost is not made up by rushing
            self.time_ns += self._period_ns
            if not over:
                self._observe(observation, self.time_ns)
        self._finish(seed, success, steps, held, total)

    def _wait_for_first(self, observation: Mapping[str, np.ndarray]) -> bool:
        while True:
            with self._condition:
                if self._condition.wait_for(self._answered, REPEAT_S):
                    return not self._interrupted()
            self._observe(observation, self.time_ns)  # a best-effort reader may have missed it

    def _next_command(self, deadline: float) -> np.ndarray | None:
        """The command for this step; None when none came in time."""
        patience = self._timeout if self._lockstep else max(0.0, deadline - time.monotonic())
        with self._condition:
            self._condition.wait_for(self._answered, patience)
            if self._command is None or self._command[0] < self.time_ns:
                return None
            return self._command[1]

    def _answered(self) -> bool:
        fresh = self._command is not None and self._command[0] >= self.time_ns
        return fresh or self._interrupted()

    def _interrupted(self) -> bool:
        return self._stopping or self._seed is not None

    def _pause_until(self, deadline: float) -> None:
        wait = deadline - time.monotonic()
        if wait > 0:
            time.sleep(wait)
