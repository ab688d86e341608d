"""HID reports, byte by byte, and the devices fed with them where the operating system would be."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_envs.errors import SimEnvError
from sim_envs.teleoperation import Command, DeviceLostError, View
from sim_envs.teleoperation.hid_devices import Gamepad, SpaceMouse, open_gamepad, open_spacemouse
from sim_envs.teleoperation.hid_reports import (
    SpaceMouseState,
    decode_dualsense,
    decode_spacemouse,
    decode_xbox,
)


class Wire:
    """What the driver would have queued; unplugged when it holds None."""

    def __init__(self, *reports: bytes | None) -> None:
        self.reports = list(reports)
        self.closed = False

    def read(self, max_length: int, /) -> list[int]:
        if not self.reports:
            return []
        report = self.reports.pop(0)
        if report is None:
            raise OSError("read error")
        return list(report)

    def close(self) -> None:
        self.closed = True


def view(phase: str, fresh: bool = False, grip: float = -1.0) -> View:
    return View(phase, fresh, 0, 0, False, "", np.zeros(3), np.array([1.0, 0, 0, 0]), grip)


def dualsense(sticks=(128, 128, 128, 128), face=0x08, more=0, triggers=(0, 0)) -> bytes:
    return bytes([0x01, *sticks, *triggers, 0, face, more]) + bytes(54)


def xbox(sticks=(32768,) * 4, triggers=(0, 0), hat=0, buttons=0) -> bytes:
    return struct.pack("<B6HBHB", 1, *sticks, *triggers, hat, buttons, 0)


@given(st.lists(st.integers(-350, 350), min_size=6, max_size=6))
def test_spacemouse_short_and_long_reports_agree(counts: list[int]) -> None:
    state = decode_spacemouse(struct.pack("<B3h", 1, *counts[:3]), SpaceMouseState())
    state = decode_spacemouse(struct.pack("<B3h", 2, *counts[3:]), state)
    whole = decode_spacemouse(struct.pack("<B6h", 1, *counts), SpaceMouseState())
    np.testing.assert_allclose(state.axes, np.array(counts) / 350.0)
    np.testing.assert_array_equal(state.axes, whole.axes)


def test_spacemouse_overdriven_axis_is_cut_and_battery_report_ignored() -> None:
    state = decode_spacemouse(struct.pack("<B3h", 1, 500, -500, 0), SpaceMouseState())
    assert state.axes[:2].tolist() == [1.0, -1.0]
    assert decode_spacemouse(bytes([0x17, 80, 0]), state) is state
    with pytest.raises(SimEnvError, match="needs at least 7"):
        decode_spacemouse(b"\x01\x00\x00", state)


def test_spacemouse_leads_in_the_world_frame() -> None:
    push_away = struct.pack("<B3h", 1, 0, -350, 0)
    mouse = SpaceMouse(Wire(push_away))
    assert mouse.read().twist.tolist() == pytest.approx([1, 0, 0, 0, 0, 0])
    assert mouse.read().twist[0] == 1.0  # held: no new report
    mouse = SpaceMouse(Wire(struct.pack("<B3h", 1, 350, 0, -350), struct.pack("<B3h", 2, 0, 0, 350)))
    assert mouse.read().twist.tolist() == pytest.approx([0, -1, 1, 0, 0, -1])


def test_spacemouse_buttons_act_once_when_pressed() -> None:
    down, up, right = (bytes([3, bits, 0]) for bits in (1, 0, 2))
    wire = Wire(down, down, up)
    mouse = SpaceMouse(wire)
    assert mouse.read().grip == 1.0
    wire.reports += [down]
    assert mouse.read().grip == -1.0
    wire.reports += [right, up]
    assert mouse.read().commands == (Command.START,)
    mouse.show(view("recording"))
    wire.reports += [right]
    assert mouse.read().commands == (Command.STOP,)


def test_unplugged_is_said() -> None:
    wire = Wire(struct.pack("<B3h", 1, 0, 100, 0), None)
    mouse = SpaceMouse(wire)
    with pytest.raises(DeviceLostError, match="spacemouse was unplugged"):
        mouse.read()
    mouse.close()
    assert wire.closed


def test_dualsense_sticks_buttons_and_hat() -> None:
    state = decode_dualsense(dualsense((255, 0, 0, 255), face=0x20 | 0x02, more=0x22, triggers=(255, 51)))
    assert state is not None
    assert state.left == (1.0, 1.0) and state.right == (-1.0, -1.0)
    assert state.pad == (1, 0) and state.held == {"south", "r1", "start"}
    assert (state.l2, state.r2) == (1.0, pytest.approx(0.2))
    # The same state over Bluetooth, long and short.
    usb = dualsense((255, 0, 0, 255), face=0x22, more=0x22, triggers=(255, 51))
    assert decode_dualsense(bytes([0x31, 0x00]) + usb[1:] + bytes(12)) == state
    assert decode_dualsense(bytes([0x01, 255, 0, 0, 255, 0x22, 0x22, 0, 255, 51])) == state
    rest = decode_dualsense(dualsense())
    assert rest is not None and rest.left == (0.0, 0.0) == rest.right and rest.pad == (0, 0) and not rest.held
    assert decode_dualsense(b"\x05" + bytes(63)) is None
    with pytest.raises(SimEnvError, match="needs at least"):
        decode_dualsense(b"\x01\x80\x80")


def test_xbox_sticks_buttons_and_hat() -> None:
    state = decode_xbox(xbox((65535, 0, 0, 65535), (1023, 0), hat=5, buttons=1 << 0 | 1 << 11))
    assert state is not None
    assert state.left == (1.0, 1.0) and state.right == (-1.0, -1.0)
    assert state.pad == (0, -1) and state.held == {"south", "start"} and state.l2 == 1.0
    rest = decode_xbox(xbox())
    assert rest is not None and rest.left == (0.0, 0.0) and rest.pad == (0, 0)
    early = bytearray(xbox())
    early[16] = 1
    pressed = decode_xbox(bytes(early))
    assert pressed is not None and pressed.held == {"select"}


@given(st.integers(0, 255))
def test_stick_is_odd_monotone_and_bounded(value: int) -> None:
    def right(v: int) -> float:
        state = decode_dualsense(dualsense((v, 128, 128, 128)))
        assert state is not None
        return state.left[0]

    assert -1.0 <= right(value) <= 1.0
    assert right(value) == pytest.approx(-right(255 - value))
    assert value == 0 or right(value) >= right(value - 1)


def test_gamepad_leads_and_commands() -> None:
    wire = Wire(dualsense((128, 0, 128, 0)), dualsense((128, 0, 128, 0), face=0x28, more=0x20))
    pad = Gamepad(wire, decode_dualsense)
    given_ = pad.read()
    assert given_.twist.tolist() == [1, 0, 1, 0, 0, 0]
    assert given_.grip == 1.0 and given_.commands == (Command.START,)
    wire.reports += [dualsense((128, 0, 128, 0), face=0x28, more=0x20)]
    assert pad.read().commands == () and pad.read().grip == 1.0
    pad.show(view("ready", fresh=True))
    assert pad.read().grip == -1.0


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hid", None)
    for opener in (open_spacemouse, open_gamepad):
        with pytest.raises(SimEnvError, match=r"diffbot\[teleop\]"):
            opener()
