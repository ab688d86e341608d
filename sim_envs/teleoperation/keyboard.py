"""The keyboard as a device: keys held move the gripper, keys pressed give commands. Needs an X display (or Windows, macOS)."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import numpy as np

from sim_envs.errors import SimEnvError, require
from sim_envs.teleoperation.device import CLOSE, OPEN, Command, DeviceLostError, Input, View

SHARE = 0.5  # of the largest motion while a key is held; shift gives all of it
# key -> (entry of the twist, sign): seen from behind the robot
MOTION = {
    "w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "r": (2, 1), "f": (2, -1),
    "i": (4, 1), "k": (4, -1), "j": (3, -1), "l": (3, 1), "q": (5, 1), "e": (5, -1),
}  # fmt: skip
COMMANDS = {
    "enter": Command.START,
    "backspace": Command.DISCARD,
    "tab": Command.SWITCH_ARM,
    "y": Command.SUCCESS,
    "n": Command.FAILURE,
    "u": Command.UNDO,
    "esc": Command.QUIT,
}


class Keyboard:
    """Listens to all keys of the display, also while another window has the focus."""

    name = "keyboard"
    help = (
        "w s a d r f: move; q e i k j l: turn; shift: faster; space: gripper; enter: start, then stop; "
        "backspace: discard; u: undo; y n: label; tab: other arm; esc: quit"
    )
    shows_images = False

    def __init__(self) -> None:
        if sys.platform == "linux" and not os.environ.get("DISPLAY"):
            raise SimEnvError(
                "the keyboard needs an X display and DISPLAY is not set. Without a screen: device=browser, "
                "or xvfb-run diffbot collect ..."
            )
        try:
            pynput = require("pynput.keyboard", "teleop")
        except ImportError as error:  # pynput connects when it is imported
            raise SimEnvError(
                f"the keyboard cannot be read on the display {os.environ.get('DISPLAY', '')}: {error}"
            ) from error
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._given: list[Command] = []
        self._grip = OPEN
        self._recording = False
        self._listener = pynput.Listener(on_press=self._press, on_release=self._release)
        self._listener.start()
        self._listener.wait()

    def read(self) -> Input:
        """Keys held now and commands since the last read. Raises DeviceLostError when the display is gone."""
        if not self._listener.is_alive():
            raise DeviceLostError("the keyboard was lost: the display no longer answers")
        with self._lock:
            twist = np.zeros(6)
            for key in self._held & MOTION.keys():
                entry, sign = MOTION[key]
                twist[entry] += sign
            commands, self._given = tuple(self._given), []
            share = 1.0 if "shift" in self._held else SHARE
            return Input(share * twist, self._grip, commands)

    def show(self, view: View) -> None:
        """A new episode or another arm starts from the gripper as it is."""
        with self._lock:
            self._recording = view.phase == "recording"
            if view.fresh:
                self._grip = view.grip

    def close(self) -> None:
        """Stop listening."""
        self._listener.stop()
        self._listener.join(5.0)

    def _press(self, key: Any) -> None:
        name = _name(key)
        with self._lock:
            if name in self._held:  # the keyboard repeats
                return
            self._held.add(name)
            if name == "space":
                self._grip = OPEN if self._grip > 0 else CLOSE
            elif name == "enter" and self._recording:
                self._given.append(Command.STOP)
            elif name in COMMANDS:
                self._given.append(COMMANDS[name])

    def _release(self, key: Any) -> None:
        with self._lock:
            self._held.discard(_name(key))


def _name(key: Any) -> str:
    """A character in lower case, or the name of a special key."""
    char = getattr(key, "char", None)
    if char:
        return str(char).lower()
    name = str(getattr(key, "name", key) or key)
    return "shift" if name.startswith("shift") else name
