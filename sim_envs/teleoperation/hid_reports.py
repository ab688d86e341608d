"""USB HID reports of operator devices as numbers: pure functions from bytes, so they can be checked without the device.

Layouts: 3Dconnexion SpaceMouse (reports 1 to 3, 16-bit signed little-endian counts, full deflection 350), Sony DualSense
over USB (report 1, 64 bytes) and Bluetooth (report 0x31, or the short report 1 of 10 bytes), Microsoft Xbox One
controller over Bluetooth (report 1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

import numpy as np

from sim_envs.errors import SimEnvError

SPACEMOUSE_FULL = 350.0  # counts of a fully deflected cap
STICK_DEAD_ZONE = 0.1  # share of a stick's travel that counts as rest
HAT_DIRECTIONS = (
    (0, 1),
    (1, 1),
    (1, 0),
    (1, -1),
    (0, -1),
    (-1, -1),
    (-1, 0),
    (-1, 1),
)  # (right, up) from north


@dataclass(frozen=True)
class SpaceMouseState:
    """Deflection [6] in [-1, 1] in the device's frame: x right, y towards the operator, z down, and turns about them."""

    axes: np.ndarray = field(default_factory=lambda: np.zeros(6))
    buttons: int = 0  # bit i is button i


def decode_spacemouse(report: bytes, state: SpaceMouseState) -> SpaceMouseState:
    """`state` after one report, the report number first.

    Report 1 is the translation, or all six axes on newer (wireless) models; 2 the rotation; 3 the buttons. Other
    reports (battery, LED) change nothing. Raises SimEnvError for one that is too short.
    """
    if not report:
        raise SimEnvError("an empty SpaceMouse report")
    kind = report[0]
    if kind in (1, 2):
        count = 6 if kind == 1 and len(report) >= 13 else 3
        values = np.array(_unpack(f"<{count}h", report, 1, "SpaceMouse"), np.float64) / SPACEMOUSE_FULL
        axes = state.axes.copy()
        first = 3 if kind == 2 else 0
        axes[first : first + count] = np.clip(values, -1, 1)
        return replace(state, axes=axes)
    if kind == 3:
        if len(report) < 2:
            raise SimEnvError(f"SpaceMouse report 3 has no buttons: {report.hex(' ')}")
        return replace(state, buttons=int.from_bytes(report[1:], "little"))
    return state


@dataclass(frozen=True)
class PadState:
    """A gamepad: sticks (right, up) in [-1, 1], triggers in [0, 1], the buttons held, by the names below.

    Buttons: south, east, west, north (cross, circle, square, triangle; A, B, X, Y), l1, r1, select, start, and the
    directional pad as (right, up) in {-1, 0, 1}.
    """

    left: tuple[float, float] = (0.0, 0.0)
    right: tuple[float, float] = (0.0, 0.0)
    l2: float = 0.0
    r2: float = 0.0
    pad: tuple[int, int] = (0, 0)
    held: frozenset[str] = frozenset()


def decode_dualsense(report: bytes) -> PadState | None:
    """A DualSense's report 1 (USB, or the short one of Bluetooth) or 0x31 (Bluetooth); None for other reports.

    Raises SimEnvError for one that is too short.
    """
    if not report or report[0] not in (0x01, 0x31):
        return None
    start = 1 if report[0] == 0x01 else 2
    if len(report) < start + 9:
        raise SimEnvError(f"DualSense report has {len(report)} bytes, needs at least {start + 9}")
    body = report[start : start + 9]
    short = report[0] == 0x01 and len(report) < 64
    face, more = (body[4], body[5]) if short else (body[7], body[8])
    l2, r2 = (body[7], body[8]) if short else (body[4], body[5])
    held = _names(face >> 4, ("west", "south", "east", "north"))
    held |= _names(more, ("l1", "r1", "", "", "select", "start"))
    lx, ly, rx, ry = ((value - 127.5) / 127.5 for value in body[:4])
    return PadState(_stick(lx, -ly), _stick(rx, -ry), l2 / 255, r2 / 255, _hat(face & 0x0F, first=0), held)


def decode_xbox(report: bytes) -> PadState | None:
    """An Xbox One controller's report 1 over Bluetooth (16 or 17 bytes); None for other reports.

    Sticks are 16-bit unsigned, triggers 10-bit. Raises SimEnvError for a report that is too short.
    """
    if not report or report[0] != 0x01:
        return None
    lx, ly, rx, ry, l2, r2, hat, buttons = _unpack("<6HBH", report, 1, "Xbox controller")
    names = ("south", "east", "", "west", "north", "", "l1", "r1", "", "", "select", "start")
    if len(report) > 16 and report[16] & 1:  # where firmware before 5 has the view button
        buttons |= 1 << names.index("select")
    sticks = [(value - 32767.5) / 32767.5 for value in (lx, ly, rx, ry)]
    return PadState(
        _stick(sticks[0], -sticks[1]),
        _stick(sticks[2], -sticks[3]),
        min(l2, 1023) / 1023,
        min(r2, 1023) / 1023,
        _hat(hat, first=1),
        _names(buttons, names),
    )


def _unpack(layout: str, report: bytes, start: int, device: str) -> tuple[int, ...]:
    need = start + struct.calcsize(layout)
    if len(report) < need:
        raise SimEnvError(f"{device} report {report[0]} has {len(report)} bytes, needs at least {need}")
    return struct.unpack_from(layout, report, start)


def _names(bits: int, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for i, name in enumerate(names) if name and bits >> i & 1)


def _hat(value: int, first: int) -> tuple[int, int]:
    """Directional pad: eight directions clockwise from north, numbered from `first`; anything else is released."""
    place = value - first
    return HAT_DIRECTIONS[place] if 0 <= place < 8 else (0, 0)


def _stick(right: float, up: float) -> tuple[float, float]:
    """A stick with its dead zone taken out, continuous at its rim."""
    return _dead(right), _dead(up)


def _dead(value: float) -> float:
    size = max(0.0, abs(value) - STICK_DEAD_ZONE) / (1.0 - STICK_DEAD_ZONE)
    return float(np.copysign(min(1.0, size), value)) if size else 0.0
