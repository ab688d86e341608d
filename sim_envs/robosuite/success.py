"""Success of each robosuite scene in the present state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sim_envs.robosuite.observations import ARM


def _native(raw: Any) -> bool:
    return bool(raw._check_success())


def _touched(raw: Any, thing: Any) -> bool:
    return bool(raw.check_contact(raw.robots[0].gripper[ARM], thing))


def _can(raw: Any) -> bool:
    return _native(raw) and not _touched(raw, raw.objects[raw.object_id])


def _square(raw: Any) -> bool:
    # robosuite measures the distance to the nut's centre, which a gripper that still holds the handle already exceeds.
    return _native(raw) and not _touched(raw, raw.nuts[raw.nut_id])


def _two_arm_lift(raw: Any) -> bool:
    upright = raw.sim.data.body_xmat[raw.sim.model.body_name2id(raw.pot.root_body)].reshape(3, 3)[2, 2]
    return _native(raw) and bool(upright >= np.cos(np.pi / 6))


SUCCESS: dict[str, Callable[[Any], bool]] = {
    "Lift": _native,
    "Stack": _native,
    "PickPlaceCan": _can,
    "NutAssemblySquare": _square,
    "Door": _native,
    "TwoArmLift": _two_arm_lift,
}
