"""What a command may do: the numbers, taken from the contract unless a robot description gives better ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from diffbot.data.contract import Contract
from diffbot.errors import ConfigError, unknown

Bound = float | tuple[float, ...] | None


@dataclass(frozen=True)
class Limits:
    """Bounds of the command stream; None leaves a bound to the contract, or off where the contract knows nothing.

    Absolute entries are positions in the contract's unit. Relative entries (delta actions) are already a motion per step:
    their `position` is the range of the command value, `acceleration` bounds its rate and `jerk` the rate of that;
    `velocity` does not apply to them. Grippers are bounded by `position` alone.

    low, high: command range; the contract's by default.
    velocity, acceleration, jerk: unit/s, unit/s^2, unit/s^3 (relative entries: acceleration in 1/s, jerk in 1/s^2).
    step_jump: largest distance between a wanted command and the last one, per entry; a larger one is a fault.
    seam_jump: the same where one chunk takes over from another.
    jump_fraction: where the contract has a range, the default of both jumps as a fraction of it; by default half of it for
        absolute entries. Delta commands may reverse within a step (experts do), so there it is the whole range.
    workspace_low, workspace_high: m, box for the Cartesian position, of the command when it is absolute and Cartesian,
        else of the observation `workspace_key` (the first one that ends in "eef_pos" when empty), beyond which relative
        motion outwards is refused.
    observation_age: s, an older newest observation is a fault. chunk_age: s, the same for a chunk's observation.
    """

    low: Bound = None
    high: Bound = None
    velocity: Bound = None
    acceleration: Bound = None
    jerk: Bound = None
    step_jump: Bound = None
    seam_jump: Bound = None
    jump_fraction: float | None = None
    workspace_low: tuple[float, ...] | None = None
    workspace_high: tuple[float, ...] | None = None
    workspace_key: str = ""
    observation_age: float = 0.2
    chunk_age: float = float("inf")

    def __post_init__(self) -> None:
        for name in ("velocity", "acceleration", "jerk", "step_jump", "seam_jump"):
            value = getattr(self, name)
            if value is not None and not (np.asarray(value) > 0).all():
                raise ConfigError(f"limit {name} must be positive, got {value}")
        if self.jerk is not None and self.acceleration is None:
            raise ConfigError("a jerk limit needs an acceleration limit too")
        if (self.workspace_low is None) != (self.workspace_high is None):
            raise ConfigError("a workspace box needs both workspace_low and workspace_high")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Limits:
        """Read a robot description's `limits`. Raises ConfigError for unknown names."""
        valid = {f.name for f in fields(cls)}
        for name in data:
            if name not in valid:
                raise unknown("limit", name, valid)
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in data.items()}
        return cls(**values)


def per_entry(name: str, value: Bound, size: int, default: float = np.inf) -> np.ndarray:
    """A bound as float64 [size]. Raises ConfigError for a wrong count."""
    if value is None:
        return np.full(size, default)
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    if numbers.shape not in ((1,), (size,)):
        raise ConfigError(f"limit {name} has {numbers.size} numbers, needs 1 or {size}")
    return np.broadcast_to(numbers, (size,)).copy()


def workspace_of(limits: Limits, contract: Contract) -> tuple[np.ndarray, np.ndarray] | None:
    """The box (low [D], high [D]) that applies under this contract, or None. Raises ConfigError when it cannot be kept."""
    if limits.workspace_low is None or limits.workspace_high is None:
        return None
    low = np.asarray(limits.workspace_low, np.float64)
    high = np.asarray(limits.workspace_high, np.float64)
    if low.shape != high.shape or not (low < high).all():
        raise ConfigError(f"workspace box {limits.workspace_low} to {limits.workspace_high} is empty")
    if contract.action.space != "cartesian":
        raise ConfigError(
            f"a workspace box needs a Cartesian action, this contract's action space is '{contract.action.space}'"
        )
    if contract.action.meaning == "delta" and position_key(limits, contract) not in contract.observations:
        raise unknown("workspace_key", limits.workspace_key, contract.observations)
    return low, high


def position_key(limits: Limits, contract: Contract) -> str:
    """The observation key of the Cartesian position for the workspace box, "" when there is none."""
    found = [key for key in contract.observations if key.endswith("eef_pos")]
    return limits.workspace_key or (found[0] if found else "")
