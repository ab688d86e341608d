"""What a task is, before any simulator is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TaskSpec:
    """One task of the registry.

    id: "family/task", for example "robosuite/lift".
    make: "package.module:callable" that builds the environment; called as `callable(task=spec, **{**options, **given})`.
    horizon: control steps after which an episode is truncated. rate: control rate in Hz.
    success: what info["success"] measures. extra: the pip extra that installs its simulator.
    group: the family that listings put it under. description: one line.
    options: keyword arguments of `make` that this task fixes.
    expert: "package.module:callable", called as `callable(seed=..., quality=..., task=spec)`, or "" when there is none.
    qualities: the qualities that the expert knows.
    """

    id: str
    make: str
    horizon: int
    rate: float
    success: str
    description: str
    extra: str = "sim"
    group: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    expert: str = ""
    qualities: tuple[str, ...] = ("expert", "good", "okay", "poor")

    @property
    def gymnasium_id(self) -> str:
        """The name in gymnasium's registry: "diffbot/robosuite-lift-v0"."""
        return f"diffbot/{self.id.replace('/', '-').replace('_', '-')}-v0"
