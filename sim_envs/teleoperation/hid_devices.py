"""SpaceMouse and gamepad: their HID reports become twists in the world frame, their buttons commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from sim_envs.errors import SimEnvError, require
from sim_envs.teleoperation.device import CLOSE, OPEN, Command, DeviceLostError, Input, View
from sim_envs.teleoperation.hid_reports import (
    PadState,
    SpaceMouseState,
    decode_dualsense,
    decode_spacemouse,
    decode_xbox,
)

SPACEMOUSE_VENDORS = (0x256F, 0x046D)  # 3Dconnexion, and Logitech for the models before 2013
SPACEMOUSE_NAMES = ("SpaceMouse", "SpaceNavigator", "SpacePilot", "SpaceExplorer")
PAD_MODELS: Mapping[tuple[int, int], Callable[[bytes], PadState | None]] = {
    (0x054C, 0x0CE6): decode_dualsense,
    (0x054C, 0x0DF2): decode_dualsense,  # DualSense Edge
    (0x045E, 0x02E0): decode_xbox,
    (0x045E, 0x02FD): decode_xbox,
    (0x045E, 0x0B13): decode_xbox,
}
PAD_COMMANDS = {
    "start": Command.START,
    "select": Command.STOP,
    "north": Command.UNDO,
    "west": Command.DISCARD,
    "r1": Command.SWITCH_ARM,
}
SPACEMOUSE_DEAD_ZONE = 0.05
REPORT_BYTES = 128
MAX_REPORTS = 200  # read at most so many at once, so that a chattering device cannot hold up control


class Handle(Protocol):
    """An open HID device, as `hid.device` is: reads never wait."""

    def read(self, max_length: int, /) -> Iterable[int]:
        """The next report, or nothing. Raises OSError when the device is gone."""

    def close(self) -> None:
        """Let go of it."""


class HidDevice:
    """Base: drains the reports that have come since the last read. Toggles the gripper and keeps it between reads."""

    name = "hid"
    help = ""
    shows_images = False

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._grip = OPEN
        self._given: list[Command] = []

    def read(self) -> Input:
        """The present deflection. Raises DeviceLostError when the device no longer answers."""
        try:
            for _ in range(MAX_REPORTS):
                report = bytes(self._handle.read(REPORT_BYTES))
                if not report:
                    break
                self.take(report)
        except OSError as error:
            raise DeviceLostError(f"the {self.name} was unplugged ({error})") from error
        commands, self._given = tuple(self._given), []
        return Input(self.twist(), self._grip, commands)

    def take(self, report: bytes) -> None:
        """Decode one report."""
        raise NotImplementedError

    def twist(self) -> np.ndarray:
        """The present deflection [6] in the world frame."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        """A new episode or another arm starts from the gripper as it is."""
        if view.fresh:
            self._grip = view.grip

    def close(self) -> None:
        """Let go of the device."""
        self._handle.close()

    def _toggle(self) -> None:
        self._grip = OPEN if self._grip > 0 else CLOSE


class SpaceMouse(HidDevice):
    """The cap moves and turns the gripper as seen from the operator's chair behind the robot.

    Pushing away is +x, left is +y, up is +z. Button 0 toggles the gripper. Button 1 starts, and stops a recording.
    """

    name = "spacemouse"
    help = "cap: move and turn; left button: gripper; right button: start, then stop"

    def __init__(self, handle: Handle) -> None:
        super().__init__(handle)
        self.state = SpaceMouseState()
        self._recording = False

    def take(self, report: bytes) -> None:
        """Decode one report and notice buttons that went down."""
        before = self.state.buttons
        self.state = decode_spacemouse(report, self.state)
        pressed = self.state.buttons & ~before
        if pressed & 1:
            self._toggle()
        if pressed & 2:
            self._given.append(Command.STOP if self._recording else Command.START)

    def twist(self) -> np.ndarray:
        """Device axes (right, towards the operator, down) turned to world axes (forward, left, up)."""
        x, y, z, rx, ry, rz = np.where(np.abs(self.state.axes) < SPACEMOUSE_DEAD_ZONE, 0.0, self.state.axes)
        return np.array([-y, -x, -z, -ry, -rx, -rz])

    def show(self, view: View) -> None:
        """Remember whether the next press of the right button ends an episode."""
        super().show(view)
        self._recording = view.phase == "recording"


class Gamepad(HidDevice):
    """Left stick: forward and left. Right stick: up and yaw. Directional pad: pitch and roll. South (cross, A): gripper.

    start begins an episode, select ends it, west (square, X) discards, north (triangle, Y) undoes, r1 switches arms.
    """

    name = "gamepad"
    help = (
        "left stick: x, y; right stick: z, yaw; cross/A: gripper; start/options: start; select/create: stop; "
        "square/X: discard; triangle/Y: undo"
    )

    def __init__(self, handle: Handle, decode: Callable[[bytes], PadState | None]) -> None:
        super().__init__(handle)
        self.state = PadState()
        self._decode = decode

    def take(self, report: bytes) -> None:
        """Decode one report and notice buttons that went down."""
        state = self._decode(report)
        if state is None:
            return
        pressed = state.held - self.state.held
        self.state = state
        if "south" in pressed:
            self._toggle()
        self._given += [command for button, command in PAD_COMMANDS.items() if button in pressed]

    def twist(self) -> np.ndarray:
        """The sticks in the world frame, seen from behind the robot."""
        (left, forward), (yaw, up), (roll, pitch) = self.state.left, self.state.right, self.state.pad
        return np.array([forward, -left, up, roll, pitch, -yaw], np.float64)


def open_spacemouse() -> SpaceMouse:
    """The first SpaceMouse that is plugged in. Raises SimEnvError when there is none or `hid` is not installed."""
    hid = require("hid", "teleop")
    for entry in hid.enumerate():
        product = entry.get("product_string") or ""
        if entry["vendor_id"] in SPACEMOUSE_VENDORS and any(n in product for n in SPACEMOUSE_NAMES):
            return SpaceMouse(_open(hid, entry, product))
    raise _missing(hid, "SpaceMouse")


def open_gamepad() -> Gamepad:
    """The first known gamepad. Raises SimEnvError when there is none or `hid` is not installed."""
    hid = require("hid", "teleop")
    for entry in hid.enumerate():
        decode = PAD_MODELS.get((entry["vendor_id"], entry["product_id"]))
        if decode is not None:
            return Gamepad(_open(hid, entry, entry.get("product_string") or "gamepad"), decode)
    raise _missing(hid, "DualSense or Xbox Bluetooth gamepad")


def _open(hid: Any, entry: Mapping[str, Any], product: str) -> Handle:
    handle = hid.device()
    try:
        handle.open_path(entry["path"])
    except OSError as error:
        raise SimEnvError(
            f"{product} cannot be opened ({error}). On Linux give your user the right to read it: a udev rule with "
            'SUBSYSTEM=="hidraw", MODE="0660", TAG+="uaccess"'
        ) from error
    handle.set_nonblocking(True)
    return handle


def _missing(hid: Any, what: str) -> SimEnvError:
    found = sorted({entry.get("product_string") or "?" for entry in hid.enumerate()})
    return SimEnvError(f"no {what} is plugged in. HID devices here: {', '.join(found) or 'none'}")
