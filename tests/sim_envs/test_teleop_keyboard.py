"""Keys sent by xdotool to a virtual X display arrive as motion and commands."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from sim_envs.errors import SimEnvError
from sim_envs.teleoperation import devices

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("Xvfb") and shutil.which("xdotool")),
    reason="needs Xvfb and xdotool",
)

# A process of its own, since pynput chooses its display when it is first imported.
LISTENER = """
import sys, time
from sim_envs.teleoperation.keyboard import Keyboard
keyboard = Keyboard()
print("listening", flush=True)
last = None
while True:
    given = keyboard.read()
    line = f"{[float(v) for v in given.twist]} {given.grip} {[str(c) for c in given.commands]}"
    if line != last:
        print(line, flush=True)
        last = line
    if "quit" in given.commands:
        break
    time.sleep(0.01)
keyboard.close()
"""


@pytest.fixture
def display() -> Iterator[dict[str, str]]:
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        number = os.read(read, 32).decode().strip()
        assert number, "Xvfb did not start"
        yield {**os.environ, "DISPLAY": f":{number}"}
    finally:
        os.close(read)
        server.terminate()
        server.wait(10)


def test_keys_lead_and_command(display: dict[str, str]) -> None:
    if importlib.util.find_spec("pynput") is None:
        pytest.skip("needs the extra teleop")
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER], env=display, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        lines = process.stdout
        next(line for line in lines if "listening" in line)

        def keys(*words: str) -> None:
            subprocess.run(["xdotool", *words], env=display, check=True, timeout=20)

        def until(condition: Callable[[str], bool]) -> str:
            deadline = time.monotonic() + 20
            for line in lines:
                if condition(line):
                    return line
                assert time.monotonic() < deadline
            raise AssertionError("the listener ended")

        keys("keydown", "w")
        until(lambda line: line.startswith("[0.5, 0.0, 0.0"))
        keys("keydown", "f")
        until(lambda line: line.startswith("[0.5, 0.0, -0.5"))
        keys("keyup", "w", "keyup", "f")
        until(lambda line: line.startswith("[0.0, 0.0, 0.0"))
        keys("key", "space")
        until(lambda line: "] 1.0 [" in line)
        keys("key", "Return")
        until(lambda line: "'start'" in line)
        keys("key", "BackSpace")
        until(lambda line: "'discard'" in line)
        keys("key", "u")
        until(lambda line: "'undo'" in line)
        keys("key", "Escape")
        until(lambda line: "'quit'" in line)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)


def test_no_display_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(SimEnvError, match="device=browser"):
        devices.HANDS["keyboard"](None)
    with pytest.raises(SimEnvError, match="Did you mean 'keyboard'"):
        devices.check_device("keybord")
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(SimEnvError, match=":987"):
        devices.HANDS["keyboard"](None)
