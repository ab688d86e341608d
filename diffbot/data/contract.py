"""What an observation and an action are: the one description that dataset, policy, environment and robot share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from diffbot.errors import ContractError, nearest

KINDS = ("state", "image")
MEANINGS = ("absolute", "delta")
SPACES = ("joint", "cartesian", "other")


@dataclass(frozen=True)
class Field:
    """One named array of an observation, without time axis.

    shape: () is not allowed; a scalar is (1,). Images are (height, width, channels).
    low, high: inclusive range in `unit`, one number for all entries or one for each; None when unbounded.
    names: one label for each entry of a 1-D field (joint names), or empty.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""
    frame: str = ""
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    kind: str = "state"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "names", tuple(self.names))
        if not self.shape or min(self.shape) < 1:
            raise ContractError(f"field shape must have positive sizes, got {self.shape}")
        _choice("kind", self.kind, KINDS)
        try:
            np.dtype(self.dtype)
        except TypeError as error:
            raise ContractError(f"field dtype '{self.dtype}' is not a numpy dtype") from error
        for bound in ("low", "high"):
            value = getattr(self, bound)
            if value is None:
                continue
            numbers = tuple(float(v) for v in np.atleast_1d(value).ravel())
            if len(numbers) not in (1, self.size):
                raise ContractError(f"field {bound} has {len(numbers)} numbers, needs 1 or {self.size}")
            object.__setattr__(self, bound, numbers)
        if self.names and len(self.names) != self.size:
            raise ContractError(f"field has {len(self.names)} names for {self.size} entries")

    @property
    def size(self) -> int:
        """Number of entries of one step."""
        return int(np.prod(self.shape))

    def check(self, name: str, value: np.ndarray, batch_dims: int = 0) -> None:
        """Raise ContractError unless `value` [batch dims..., *shape] has this field's shape and dtype and is finite."""
        if value.shape[batch_dims:] != self.shape:
            raise ContractError(
                f"'{name}' has shape {value.shape[batch_dims:]}, the contract says {self.shape}"
            )
        if value.dtype != np.dtype(self.dtype):
            raise ContractError(f"'{name}' has dtype {value.dtype}, the contract says {self.dtype}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int((~np.isfinite(value)).sum())
            raise ContractError(f"'{name}' has {bad} values that are NaN or infinite")


@dataclass(frozen=True)
class Action(Field):
    """The action of one control step, shape (dimension,).

    meaning: "absolute" set-points or "delta" from the present state; space: "joint", "cartesian" or "other";
    controller: the name of the controller that takes it ("OSC_POSE").
    """

    meaning: str = "absolute"
    space: str = "other"
    controller: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _choice("action meaning", self.meaning, MEANINGS)
        _choice("action space", self.space, SPACES)


@dataclass(frozen=True)
class Contract:
    """Observations by key, the action and the control rate in Hz."""

    observations: dict[str, Field]
    action: Action
    rate: float
    task: str = ""
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.observations:
            raise ContractError("a contract needs at least one observation key")
        if not self.rate > 0:
            raise ContractError(f"rate must be positive Hz, got {self.rate}")

    @property
    def state_keys(self) -> tuple[str, ...]:
        """Observation keys that are vectors, in order."""
        return tuple(k for k, f in self.observations.items() if f.kind == "state")

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Observation keys that are images, in order."""
        return tuple(k for k, f in self.observations.items() if f.kind == "image")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON- and YAML-able form."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Contract:
        """Inverse of `to_dict`. Raises ContractError naming the unknown or missing entry."""
        data = _only(cls, dict(data), "contract")
        for name in ("observations", "action", "rate"):
            if name not in data:
                raise ContractError(f"contract lacks '{name}'; it needs observations, action and rate")
        observations = {
            key: Field(**_only(Field, dict(value), f"observation '{key}'"))
            for key, value in data["observations"].items()
        }
        action = Action(**_only(Action, dict(data["action"]), "action"))
        rest = {k: v for k, v in data.items() if k not in ("observations", "action")}
        return cls(observations=observations, action=action, **rest)

    def hash(self) -> str:
        """12 hexadecimal digits that are equal for equal observations, action and rate, whatever the task's name."""
        data = self.to_dict()
        data.pop("task")
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]

    def select(self, keys: tuple[str, ...]) -> Contract:
        """The same contract with only these observation keys, in this order."""
        for key in keys:
            self.field(key)
        cameras = {k: v for k, v in self.cameras.items() if k in keys}
        return Contract({k: self.observations[k] for k in keys}, self.action, self.rate, self.task, cameras)

    def field(self, key: str) -> Field:
        """The observation field, or a ContractError with the nearest key."""
        if key not in self.observations:
            match = nearest(key, self.observations)
            hint = f" Did you mean '{match}'?" if match else ""
            raise ContractError(
                f"no observation key '{key}'.{hint} The contract has: {', '.join(self.observations)}"
            )
        return self.observations[key]

    def require_match(self, other: Contract, left: str = "policy", right: str = "environment") -> None:
        """Raise ContractError unless `other` offers every key of this contract and the same action and rate.

        The message shows both sides of every difference. Extra keys of `other` are allowed.
        """
        differences = []
        for key, mine in self.observations.items():
            if key not in other.observations:
                differences.append(f"observation '{key}': {left} needs it, {right} does not have it")
                continue
            differences += _differences(f"observation '{key}'", mine, other.observations[key], left, right)
        differences += _differences("action", self.action, other.action, left, right)
        if self.rate != other.rate:
            differences.append(f"rate: {left} {self.rate:g} Hz, {right} {other.rate:g} Hz")
        if differences:
            raise ContractError(f"{left} and {right} do not match:\n  " + "\n  ".join(differences))

    def check_observation(self, observation: Mapping[str, np.ndarray], batch_dims: int = 0) -> None:
        """Raise ContractError unless `observation` holds every key with its shape, dtype and finite values."""
        for key, spec in self.observations.items():
            if key not in observation:
                raise ContractError(
                    f"observation lacks '{key}'; it has: {', '.join(observation) or '(nothing)'}"
                )
            spec.check(key, np.asarray(observation[key]), batch_dims)


def _choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ContractError(f"{what} '{value}' is not one of {', '.join(choices)}")


def _only(cls: type, data: dict[str, Any], where: str) -> dict[str, Any]:
    valid = [f.name for f in fields(cls)]
    for name in data:
        if name not in valid:
            raise ContractError(f"{where} has an unknown entry '{name}'. Valid: {', '.join(valid)}")
    return data


def _differences(where: str, mine: Field, theirs: Field, left: str, right: str) -> list[str]:
    return [
        f"{where} {f.name}: {left} {getattr(mine, f.name)!r}, {right} {getattr(theirs, f.name)!r}"
        for f in fields(mine)
        if getattr(mine, f.name) != getattr(theirs, f.name, None)
    ]
