"""Device names to devices. Each module is imported when its device is opened, so its packages are needed only then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sim_envs.errors import unknown
from sim_envs.teleoperation.device import Device, Input, View


def _keyboard(env: Any) -> Device:
    from sim_envs.teleoperation.keyboard import Keyboard

    return Keyboard()


def _gamepad(env: Any) -> Device:
    from sim_envs.teleoperation.hid_devices import open_gamepad

    return open_gamepad()


def _spacemouse(env: Any) -> Device:
    from sim_envs.teleoperation.hid_devices import open_spacemouse

    return open_spacemouse()


def _leader(env: Any) -> Device:
    from sim_envs.teleoperation.leader import LeaderTopic

    return LeaderTopic(env)


def _leader_pose(env: Any) -> Device:
    from sim_envs.teleoperation.leader import LeaderPose

    return LeaderPose(env)


HANDS: dict[str, Callable[[Any], Device]] = {
    "keyboard": _keyboard,
    "gamepad": _gamepad,
    "spacemouse": _spacemouse,
    "leader-topic": _leader,
    "leader-pose": _leader_pose,
}
DEVICES = ("browser", *HANDS)


def check_device(name: str) -> None:
    """Raise SimEnvError with the nearest name unless there is such a device."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)


def open_device(name: str, env: Any, *, page: bool = True, **options: Any) -> Device:
    """The device `name` for the task `env`, listening; `options` go to the browser page.

    Every device has the page, to see the task on and for commands; page=False leaves it out for all but the browser.
    Raises SimEnvError when the device, or a package of it, is missing.
    """
    from sim_envs.teleoperation.browser import BrowserDevice

    check_device(name)
    if name == "browser":
        return BrowserDevice(env, **options)
    hand = HANDS[name](env)
    return Watched(hand, BrowserDevice(env, **options)) if page else hand


class Watched:
    """A device in the operator's hand, with the browser page as its screen. Motion and gripper are the hand's."""

    shows_images = True

    def __init__(self, hand: Device, page: Device) -> None:
        self.hand, self.page = hand, page
        self.name, self.help = hand.name, f"{hand.help}. To see it {page.help}"

    def read(self) -> Input:
        """The hand's motion, with the commands of both. Raises DeviceLostError when the hand's device is gone."""
        given = self.hand.read()
        return replace(given, commands=(*given.commands, *self.page.read().commands))

    def show(self, view: View) -> None:
        """Show it on the page, and tell the hand's device."""
        self.hand.show(view)
        self.page.show(view)

    def close(self) -> None:
        """Let go of both."""
        self.hand.close()
        self.page.close()
