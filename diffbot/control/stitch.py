"""How a new chunk takes over from the one being executed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from diffbot.control.chunk import Chunk, ChunkBuffer
from diffbot.data.contract import Action
from diffbot.errors import unknown

GUIDED = np.float32(0.99)  # as good as certain, yet not kept exactly: that is what a weight of 1 asks for


@dataclass(frozen=True, eq=False)
class CommittedPrefix:
    """What is already decided of the next chunk, in the contract's units.

    actions: float32 [H, A] on the next chunk's time grid. weights: float32 [H] in [0, 1]; 1 keeps the step exactly.
    """

    actions: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Selection:
    """The action [A] for one instant and where it came from."""

    action: np.ndarray
    chunk: Chunk
    index: int


class Stitcher(Protocol):
    """Chooses the action of an instant from the buffered chunks.

    makes_up: the controller returns relative actions to the chunk's path (`diffbot.control.makeup`).
    """

    name: str
    makes_up: bool

    def select(self, buffer: ChunkBuffer, now: float) -> Selection | None:
        """The action at `now`, or None when no chunk covers it."""

    def prefix(
        self, buffer: ChunkBuffer, start: float, delay: int, horizon: int, execute: int
    ) -> CommittedPrefix | None:
        """What the chunk that is about to be computed must respect, or None.

        start: s, time of its step 0. delay: steps that will have been executed when it arrives. horizon: its length H.
        execute: steps between two inferences.
        """


class Switch:
    """Takes the newest chunk as soon as it is there."""

    name = "switch"
    makes_up = False

    def select(self, buffer: ChunkBuffer, now: float) -> Selection | None:
        found = buffer.newest(now)
        return None if found is None else Selection(found[0].actions[found[1]], *found)

    def prefix(
        self, buffer: ChunkBuffer, start: float, delay: int, horizon: int, execute: int
    ) -> CommittedPrefix | None:
        return None


class OverlapBlend(Switch):
    """Cross-fades linearly from the previous chunk over `steps` steps after the arrival of the new one."""

    name = "blend"

    def __init__(self, steps: int = 4) -> None:
        if steps < 1:
            raise ValueError(f"a blend takes at least 1 step, got {steps}")
        self.steps = steps

    def select(self, buffer: ChunkBuffer, now: float) -> Selection | None:
        covering = buffer.covering(now)
        if not covering:
            return None
        chunk, arrived = covering[-1]
        index = chunk.index(now)
        if len(covering) == 1:
            return Selection(chunk.actions[index], chunk, index)
        # Step 1 of `steps + 1` at arrival, so that the first blended command already moves towards the new chunk.
        share = min(1.0, (index - chunk.index(arrived) + 1) / (self.steps + 1))
        previous = covering[-2][0]
        old = previous.actions[previous.index(now)]
        return Selection((1.0 - share) * old + np.float32(share) * chunk.actions[index], chunk, index)


class TemporalEnsemble(Switch):
    """Weighted mean of every chunk that covers the instant, w_i = exp(-m i) with i = 0 the oldest.

    Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware" (ACT, 2023), section IV-A and
    algorithm 2; m = 0.01 there. A small m takes up new observations faster.
    """

    name = "ensemble"

    def __init__(self, m: float = 0.01) -> None:
        self.m = m

    def select(self, buffer: ChunkBuffer, now: float) -> Selection | None:
        covering = buffer.covering(now)
        if not covering:
            return None
        actions = np.stack([chunk.actions[chunk.index(now)] for chunk, _ in covering]).astype(np.float64)
        weights = np.exp(-self.m * np.arange(len(actions)))
        mean = (weights / weights.sum()) @ actions
        newest = covering[-1][0]
        return Selection(mean.astype(np.float32), newest, newest.index(now))


class RealTimeChunking(Switch):
    """Freezes what will have been executed when the next chunk arrives and guides the overlap softly.

    Black, Galliker, Levine, "Real-Time Execution of Action Chunking Flow Policies" (2025), equation 5: the weights are 1
    for the first `delay` steps, decay exponentially to 0 where the previous chunk ends, and are 0 beyond it.

    pinned: keep the committed steps exactly in the new chunk, as in the paper. Otherwise they only guide it, and the
    controller makes up for the difference. That is for relative actions: there the committed steps may lead away from
    where the new observation asks the robot to be, and a policy that is forced to begin with them goes on like that.
    """

    name = "rtc"

    def __init__(self, pinned: bool = True) -> None:
        self.pinned = pinned
        self.makes_up = not pinned

    def prefix(
        self, buffer: ChunkBuffer, start: float, delay: int, horizon: int, execute: int
    ) -> CommittedPrefix | None:
        chunks = list(buffer)
        if not chunks:
            return None
        previous = chunks[-1]
        offset = previous.index(start)
        overlap = min(previous.horizon - offset, horizon)
        if offset < 0 or overlap < 1:
            return None
        valid = np.asarray(previous.valid)[offset : offset + overlap]
        overlap = overlap if valid.all() else int(np.argmin(valid))
        if overlap < 1:
            return None
        actions = np.repeat(previous.actions[offset + overlap - 1 : offset + overlap], horizon, axis=0)
        actions[:overlap] = previous.actions[offset : offset + overlap]
        weights = soft_mask(horizon, delay, min(overlap, horizon - execute))
        return CommittedPrefix(actions, weights if self.pinned else GUIDED * weights)


def soft_mask(horizon: int, delay: int, overlap: int) -> np.ndarray:
    """Weights float32 [horizon] of Black et al. 2025, equation 5.

    With d = delay and O = overlap (H - s in the paper): 1 for i < d; c_i (e^c_i - 1) / (e - 1) with
    c_i = (O - i) / (O - d + 1) for d <= i < O; 0 from O on. The first `delay` steps stay 1 even where O < d.
    """
    i = np.arange(horizon, dtype=np.float64)
    c = np.clip((overlap - i) / max(overlap - delay + 1, 1), 0.0, 1.0)
    soft = c * np.expm1(c) / np.expm1(1.0)
    return np.where(i < delay, 1.0, np.where(i < overlap, soft, 0.0)).astype(np.float32)


STITCHERS: dict[str, Callable[..., Stitcher]] = {
    cls.name: cls for cls in (Switch, OverlapBlend, TemporalEnsemble, RealTimeChunking)
}


def stitcher_by_name(name: str, action: Action | None = None, **options: float) -> Stitcher:
    """Build a stitcher: "switch", "blend" (steps), "ensemble" (m) or "rtc" (pinned). Raises ConfigError for other names.

    action: of the contract; "rtc" does not pin relative actions.
    """
    if name not in STITCHERS:
        raise unknown("stitcher", name, STITCHERS)
    if name == RealTimeChunking.name and action is not None:
        options.setdefault("pinned", action.meaning != "delta")
    return STITCHERS[name](**options)
