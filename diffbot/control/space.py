"""Which entries of an action are motion, which are a gripper, and which action means "stay where you are"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffbot.data.contract import Action

GRIPPER_WORDS = ("gripper", "finger")


@dataclass(frozen=True, eq=False)
class ActionSpace:
    """An action seen by the limits: its range and how each entry is held.

    low, high: float64 [A], infinite where the contract gives no bound.
    gripper: bool [A]. relative: bool [A], entries that are a motion from the present state; holding those is zero,
    holding any other entry is repeating the last command.
    """

    low: np.ndarray
    high: np.ndarray
    gripper: np.ndarray
    relative: np.ndarray

    @classmethod
    def from_action(cls, action: Action) -> ActionSpace:
        """Read the contract: an entry whose name contains "gripper" or "finger" is a gripper."""
        size = action.size
        names = action.names or ("",) * size
        gripper = np.array([any(word in name.lower() for word in GRIPPER_WORDS) for name in names])
        low = (
            np.full(size, -np.inf)
            if action.low is None
            else np.broadcast_to(np.asarray(action.low, np.float64), size)
        )
        high = (
            np.full(size, np.inf)
            if action.high is None
            else np.broadcast_to(np.asarray(action.high, np.float64), size)
        )
        relative = ~gripper if action.meaning == "delta" else np.zeros(size, bool)
        return cls(low.copy(), high.copy(), gripper, relative)

    @property
    def size(self) -> int:
        """Number of entries A."""
        return len(self.low)

    def hold(self, last: np.ndarray | None) -> np.ndarray:
        """The action [A] float32 that keeps the robot where the command `last` left it.

        Without a last command it is the value nearest zero that the range allows, which for delta actions is no motion.
        """
        base = np.zeros(self.size) if last is None else np.asarray(last, np.float64)
        return np.clip(np.where(self.relative, 0.0, base), self.low, self.high).astype(np.float32)
