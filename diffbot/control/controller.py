"""What runs at control rate: chunks in, one bounded command out at every tick, and a hold with a reason when in doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from diffbot.control.chunk import STEP_TOLERANCE, Chunk, ChunkBuffer
from diffbot.control.limits import Limits, per_entry, position_key, workspace_of
from diffbot.control.makeup import MakeUp
from diffbot.control.shaper import Shaper
from diffbot.control.space import ActionSpace
from diffbot.control.stitch import CommittedPrefix, Selection, Stitcher, stitcher_by_name
from diffbot.data.contract import Contract
from diffbot.errors import ConfigError

# A chunk refused for one of these means that the policy is broken, so the robot stops at once; chunks that are merely
# late or out of order are dropped while the one being executed goes on.
BROKEN = frozenset({"contract_mismatch", "wrong_shape", "non_finite_chunk"})


@dataclass(frozen=True, eq=False)
class Command:
    """One tick's output.

    action: float32 [A], always finite and inside the limits. status: "run", "limited" (following, but a limit bound),
    "stopping", "hold" (at rest because of a fault) or "stopped" (emergency stop). reason: why, "" when running.
    chunk_id, step_index: where the action came from, -1 when from no chunk. time: s. known: False while nothing was ever
    commanded and no position is known, so that a hold says nothing about absolute entries: do not send it to a robot.
    """

    action: np.ndarray
    status: str
    reason: str
    chunk_id: int
    step_index: int
    time: float
    known: bool = True


class Controller:
    """Turns chunks into commands under limits. Knows no policy, no simulator and no ROS; time is whatever `now` says.

    limits: None takes the defaults from the contract. stitcher: a Stitcher or the name of one. action_horizon: steps
    between two inferences. rate: Hz at which `command` is called, the contract's when None; above it absolute entries are
    interpolated linearly between the steps of a chunk. `counters` counts each reason: refused chunks, limited ticks, and
    holds (once each).

    Raises ConfigError where limits contradict the contract, or delta actions should go out at another rate than theirs.
    """

    def __init__(
        self,
        contract: Contract,
        limits: Limits | None = None,
        stitcher: Stitcher | str = "switch",
        action_horizon: int = 8,
        rate: float | None = None,
    ) -> None:
        if action_horizon < 1:
            raise ValueError(f"action_horizon is at least 1 step, got {action_horizon}")
        self.contract = contract
        self.limits = limits = limits or Limits()
        self.stitcher = stitcher_by_name(stitcher, contract.action) if isinstance(stitcher, str) else stitcher
        self.action_horizon = action_horizon
        self.period = 1.0 / (rate or contract.rate)
        self.space = space = ActionSpace.from_action(contract.action)
        faster = self.period < (1.0 - STEP_TOLERANCE) / contract.rate
        if space.relative.any() and abs(self.period * contract.rate - 1.0) > STEP_TOLERANCE:
            raise ConfigError(
                f"delta actions are motions per step: they go out at the contract's {contract.rate:g} Hz, not at {rate:g} Hz"
            )
        self._interpolated = faster & ~space.gripper & ~space.relative
        self._box = workspace_of(limits, contract)
        self._position_key = position_key(limits, contract)
        self.low = np.maximum(space.low, per_entry("low", limits.low, space.size, -np.inf))
        self.high = np.minimum(space.high, per_entry("high", limits.high, space.size))
        if self._box is not None and contract.action.meaning == "absolute":
            n = len(self._box[0])
            self.low[:n] = np.maximum(self.low[:n], self._box[0])
            self.high[:n] = np.minimum(self.high[:n], self._box[1])
        motion = ~space.gripper
        bounds = {
            name: np.where(motion, per_entry(name, getattr(limits, name), space.size), np.inf)
            for name in ("velocity", "acceleration", "jerk")
        }
        self.shaper = Shaper(self.low, self.high, **bounds, first_order=space.relative, dt=self.period)
        fraction = (
            np.where(space.relative, 1.0, 0.5) if limits.jump_fraction is None else limits.jump_fraction
        )
        width = np.where(motion, (self.high - self.low) * fraction, np.inf)
        self._step_jump, self._seam_jump = (
            np.where(motion, width if value is None else per_entry(name, value, space.size), np.inf)
            for name, value in (("step_jump", limits.step_jump), ("seam_jump", limits.seam_jump))
        )
        self._makeup = MakeUp(space.relative, self.low, self.high)
        self._makes_up = self.stitcher.makes_up and bool(space.relative.any())
        self.buffer = ChunkBuffer(space.size, contract.hash(), max_age=limits.chunk_age)
        self.counters: Counter[str] = Counter()
        self.reset()

    def reset(self, position: np.ndarray | None = None) -> None:
        """Start an episode. position: float [A], where the robot is now in units of an absolute action, if known.

        Without it the first command is taken as it is (within the range), since there is nothing to compare it with, and
        holds before it are not `known`.
        """
        self.buffer.clear()
        self._makeup.reset()
        self._last: np.ndarray | None = None
        self._chunk_id = -1
        self._fault = ""
        self._held = ""
        self._estop = False
        self._observation_time: float | None = None
        self._position: np.ndarray | None = None
        self._now = -np.inf
        start = np.clip(np.zeros(self.space.size), self.low, self.high)
        if position is not None:
            start = np.where(self.space.relative, 0.0, np.asarray(position, np.float64))
            self._last = start.astype(np.float32)
        self.shaper.reset(start)

    def push(self, chunk: Chunk, now: float) -> str:
        """Offer a chunk that arrived at `now`. Returns "" or the reason why it was refused."""
        reason = self.buffer.push(chunk, now)
        if reason:
            self.counters[reason] += 1
        if reason in BROKEN:
            self._fault = reason
        elif not reason:
            self._fault = ""
        return reason

    def observe(self, time: float, observation: Mapping[str, np.ndarray] | None = None) -> str:
        """Tell the stamp of the newest observation (for staleness) and its values (for the workspace box of delta actions).

        Returns "" or "out_of_order_observation".
        """
        if self._observation_time is not None and time < self._observation_time:
            self.counters["out_of_order_observation"] += 1
            return "out_of_order_observation"
        self._observation_time = time
        if self._box is not None and observation is not None and self._position_key in observation:
            value = np.asarray(observation[self._position_key], np.float64)
            self._position = value.reshape(-1)[: len(self._box[0])]
        return ""

    @property
    def observation_time(self) -> float | None:
        """Stamp of the newest observation told to `observe`, s."""
        return self._observation_time

    def emergency_stop(self, on: bool = True) -> None:
        """Stop smoothly and stay stopped until called with False."""
        self._estop = on
        if on:
            self.counters["estop"] += 1

    def prefix(self, start: float, delay: int, horizon: int) -> CommittedPrefix | None:
        """What a chunk of `horizon` steps beginning at `start` must respect if it arrives `delay` steps later."""
        return self.stitcher.prefix(self.buffer, start, delay, horizon, self.action_horizon)

    def command(self, now: float) -> Command:
        """The command of the tick at `now`."""
        if now < self._now - STEP_TOLERANCE * self.period:
            # Chunks stamped by a clock that jumped back say nothing about what to do now.
            self.buffer.clear()
            self._makeup.reset()
            self._observation_time = None
            self._fault = "clock_jump"
            self._now = now
            return self._stop("clock_jump", now)
        self._now = now
        self.buffer.forget(now)
        fault = self._standing_fault(now)
        if fault:
            return self._stop(fault, now)
        selection = self.stitcher.select(self.buffer, now)
        if selection is None:
            return self._stop("starved" if self._chunk_id >= 0 else "no_chunk", now)
        selection = self._between(selection, now)
        if self._makes_up:
            chunk, index = selection.chunk, selection.index
            selection = Selection(self._makeup.action(chunk, index, now), chunk, index)
        fault = self._jump(selection)
        if fault:
            return self._stop(fault, now)
        return self._follow(selection, now)

    def _standing_fault(self, now: float) -> str:
        if self._estop:
            return "estop"
        if self._fault:
            return self._fault
        if self._observation_time is None:
            return ""
        age = now - self._observation_time
        if age > self.limits.observation_age + STEP_TOLERANCE * self.period:
            return "stale_observation"
        return "future_observation" if age < -self.limits.observation_age else ""

    def _jump(self, selection: Selection) -> str:
        wanted = selection.action
        if not np.isfinite(wanted).all():
            return "non_finite_action"
        if self._last is None:
            return ""
        distance = np.abs(np.clip(wanted, self.low, self.high) - self._last)
        if selection.chunk.id != self._chunk_id and (distance > self._seam_jump * (1 + 1e-6)).any():
            return "seam_jump"
        return "step_jump" if (distance > self._step_jump * (1 + 1e-6)).any() else ""

    def _between(self, selection: Selection, now: float) -> Selection:
        """Between two steps of a chunk: the straight line from this step's set-point to the next one's."""
        if not self._interpolated.any():
            return selection
        chunk = selection.chunk
        following = self.stitcher.select(self.buffer, now + chunk.step)
        if following is None or following.chunk is not chunk:
            return selection
        share = np.clip((now - chunk.start) / chunk.step - selection.index, 0.0, 1.0) * self._interpolated
        action = selection.action + share.astype(np.float32) * (following.action - selection.action)
        return Selection(action, chunk, selection.index)

    def _follow(self, selection: Selection, now: float) -> Command:
        wanted = np.asarray(selection.action, np.float64)
        bounded, reason = self._keep_in_box(wanted)
        if self._last is None and not self.space.relative.all():
            self.shaper.reset(np.where(self.space.relative, 0.0, bounded))
        action = self.shaper.follow(bounded).astype(np.float32)
        if not reason and np.abs(action - wanted).max() > 1e-5 * max(1.0, float(np.abs(wanted).max())):
            reason = self.shaper.binding
        if reason:
            self.counters[reason] += 1
        self._held = ""
        self._last = action
        self._makeup.executed(now, action)
        self._chunk_id = selection.chunk.id
        status = "limited" if reason else "run"
        return Command(action, status, reason, selection.chunk.id, selection.index, now)

    def _keep_in_box(self, wanted: np.ndarray) -> tuple[np.ndarray, str]:
        """Refuse relative Cartesian motion that leads further out of the workspace box."""
        if self._box is None or self._position is None or self.contract.action.meaning != "delta":
            return wanted, ""
        low, high = self._box
        kept = wanted.copy()
        n = len(self._position)
        kept[:n] = np.where(self._position >= high[:n], np.minimum(kept[:n], 0.0), kept[:n])
        kept[:n] = np.where(self._position <= low[:n], np.maximum(kept[:n], 0.0), kept[:n])
        return kept, "workspace" if (kept != wanted).any() else ""

    def _stop(self, reason: str, now: float) -> Command:
        if reason != self._held:
            self.counters[reason] += 1
            self._held = reason
        action = self.shaper.stop().astype(np.float32)
        if self._last is not None:
            # Grippers and entries without dynamics repeat their last command exactly.
            keep = self.space.gripper | self.shaper.free
            action = np.where(keep, self._last, action).astype(np.float32)
            self._last = action
        self._makeup.executed(now, action)
        resting = self.shaper.at_rest
        status = "stopped" if reason == "estop" else "hold" if resting else "stopping"
        known = self._last is not None or bool((self.space.relative | self.space.gripper).all())
        return Command(action, status, reason, -1, -1, now, known)
