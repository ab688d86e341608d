"""A time-stamped chunk of actions, and the store of the chunks that still matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

# Stamps are sums of periods in floating point: a step begins this fraction of a period early.
STEP_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Chunk:
    """The actions of consecutive control steps, computed from one observation.

    actions: float32 [H, A] in the contract's units.
    start: s, time of step 0: the stamp of the newest observation that the policy saw, later where `ChunkBuffer` moved it.
    step: s, duration of one step.
    id: counts the chunks of one policy run.
    contract_hash: `Contract.hash()` of the policy, or "" when unknown.
    valid: bool [H], False for steps that must not be executed; all True when None.
    observation_time: s, stamp of that newest observation; `start` when None.
    """

    actions: np.ndarray
    start: float
    step: float
    id: int = 0
    contract_hash: str = ""
    valid: np.ndarray | None = None
    observation_time: float | None = None

    def __post_init__(self) -> None:
        actions = np.ascontiguousarray(self.actions, dtype=np.float32)
        if actions.ndim != 2 or not actions.size:
            raise ValueError(f"chunk actions must be [steps, dimension], got shape {actions.shape}")
        if not self.step > 0:
            raise ValueError(f"chunk step must be positive seconds, got {self.step}")
        valid = np.ones(len(actions), bool) if self.valid is None else np.asarray(self.valid, bool)
        if valid.shape != (len(actions),):
            raise ValueError(f"chunk valid has shape {valid.shape}, needs ({len(actions)},)")
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "valid", valid)
        if self.observation_time is None:
            object.__setattr__(self, "observation_time", self.start)

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return len(self.actions)

    @property
    def end(self) -> float:
        """Time at which the last step ends, s."""
        return self.start + self.horizon * self.step

    @property
    def observed(self) -> float:
        """`observation_time`, which is always filled in."""
        assert self.observation_time is not None
        return self.observation_time

    def index(self, now: float) -> int:
        """The step that covers `now`: negative before the start, >= H after the end."""
        return int(np.floor((now - self.start) / self.step + STEP_TOLERANCE))

    def covers(self, now: float) -> bool:
        """Whether a valid step covers `now`."""
        i = self.index(now)
        return 0 <= i < self.horizon and bool(self.valid[i])  # type: ignore[index]

    def at(self, now: float) -> np.ndarray | None:
        """The action [A] of the step that covers `now`, or None outside the chunk and at invalid steps."""
        return self.actions[self.index(now)] if self.covers(now) else None


class ChunkBuffer:
    """The accepted chunks, oldest observation first; those that have ended are forgotten.

    A chunk that finds the robot at rest starts when it arrives: its first steps are not skipped for a delay in which
    nothing moved. That is so when no accepted chunk reached as far as its observation: at the start of an episode, and after
    the robot ran out of steps. Any other chunk keeps its time line.

    `push` refuses, with a reason: "contract_mismatch", "wrong_shape", "non_finite_chunk", "out_of_order_chunk" (computed
    from an older observation than a chunk already held), "future_chunk", "stale_chunk" (nothing of it left, or older
    than `max_age` seconds).
    """

    def __init__(
        self, dimension: int, contract_hash: str = "", keep: int = 16, max_age: float = float("inf")
    ) -> None:
        if keep < 1:
            raise ValueError(f"a chunk buffer keeps at least 1 chunk, got {keep}")
        self.dimension = dimension
        self.contract_hash = contract_hash
        self.keep = keep
        self.max_age = max_age
        self._chunks: list[tuple[Chunk, float]] = []
        self._busy_until = -np.inf  # end of what was ever accepted, s

    def push(self, chunk: Chunk, now: float) -> str:
        """Take a chunk that arrived at `now`; returns "" or the reason why it was refused."""
        if chunk.contract_hash and self.contract_hash and chunk.contract_hash != self.contract_hash:
            return "contract_mismatch"
        if chunk.actions.shape[1] != self.dimension:
            return "wrong_shape"
        if not np.isfinite(chunk.actions[chunk.valid]).all() or not np.isfinite(chunk.start):
            return "non_finite_chunk"
        if self._chunks and chunk.observed < self._chunks[-1][0].observed:
            return "out_of_order_chunk"
        if chunk.index(now) < -chunk.horizon:
            return "future_chunk"
        if chunk.index(now) >= chunk.horizon or now - chunk.observed > self.max_age:
            return "stale_chunk"
        if self._chunks and chunk.observed == self._chunks[-1][0].observed:
            self._chunks.pop()
        if now > chunk.start and chunk.observed > self._busy_until - STEP_TOLERANCE * chunk.step:
            chunk = replace(chunk, start=now)
        self._busy_until = max(self._busy_until, chunk.end)
        self._chunks.append((chunk, now))
        self._chunks = self._chunks[-self.keep :]
        return ""

    def forget(self, now: float) -> None:
        """Drop the chunks that have ended before `now` or have grown older than `max_age`."""
        self._chunks = [
            (c, t) for c, t in self._chunks if c.index(now) < c.horizon and now - c.observed <= self.max_age
        ]

    def clear(self) -> None:
        """Forget every chunk; the robot counts as at rest."""
        self._chunks.clear()
        self._busy_until = -np.inf

    def covering(self, now: float) -> list[tuple[Chunk, float]]:
        """(chunk, arrival time) of each chunk with a valid step at `now`, oldest observation first."""
        return [
            (c, arrived) for c, arrived in self._chunks if c.covers(now) and now - c.observed <= self.max_age
        ]

    @property
    def latest(self) -> Chunk | None:
        """The chunk of the newest observation, as it is executed, or None."""
        return self._chunks[-1][0] if self._chunks else None

    def newest(self, now: float) -> tuple[Chunk, int] | None:
        """The newest chunk that has a valid step at `now` and the index of that step, or None."""
        covering = self.covering(now)
        return (covering[-1][0], covering[-1][0].index(now)) if covering else None

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[Chunk]:
        return iter([c for c, _ in self._chunks])
