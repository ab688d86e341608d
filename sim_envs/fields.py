"""Plain dictionaries for the entries of a contract, as `TaskEnv.contract` returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Bound = float | Sequence[float] | np.ndarray | None


def state(
    size: int,
    unit: str = "",
    frame: str = "world",
    low: Bound = None,
    high: Bound = None,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """A float32 vector [size] with its unit, frame, inclusive range and one name for each entry."""
    bounds = {"low": _bound(low), "high": _bound(high)}
    entry = {
        "shape": [size],
        "dtype": "float32",
        "unit": unit,
        "frame": frame,
        **bounds,
        "names": list(names),
    }
    return {**entry, "kind": "state"}


def image(height: int, width: int, camera: str) -> dict[str, Any]:
    """A uint8 image [height, width, 3] of a camera."""
    return {"shape": [height, width, 3], "dtype": "uint8", "unit": "", "frame": camera, "kind": "image"}


def action(
    size: int,
    *,
    unit: str = "",
    low: Bound = -1.0,
    high: Bound = 1.0,
    meaning: str = "absolute",
    space: str = "other",
    controller: str = "",
    frame: str = "world",
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """An action [size]; meaning "absolute" or "delta", space "joint", "cartesian" or "other"."""
    entry = state(size, unit, frame, low, high, names)
    return {**entry, "meaning": meaning, "space": space, "controller": controller}


def contract(
    task: str, rate: float, observations: Mapping[str, dict[str, Any]], act: Mapping[str, Any], **cameras: Any
) -> dict[str, Any]:
    """The whole contract of a task."""
    return {
        "task": task,
        "rate": float(rate),
        "observations": dict(observations),
        "action": dict(act),
        "cameras": dict(cameras),
    }


def _bound(value: Bound) -> list[float] | None:
    if value is None:
        return None
    return [float(v) for v in np.atleast_1d(np.asarray(value, dtype=np.float64)).ravel()]
