"""Device names to devices. Each module is imported when its device is opened, so its packages are needed only then."""

from __future__ import annotations

import importlib
from typing import Any

from sim_envs.errors import unknown
from sim_envs.teleoperation.device import Device

DEVICES = {
    "browser": "sim_envs.teleoperation.browser:BrowserDevice",
}


def check_device(name: str) -> None:
    """Raise SimEnvError with the nearest name unless there is such a device."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)


def open_device(name: str, env: Any, **options: Any) -> Device:
    """The device `name` for the task `env`, listening. Raises SimEnvError when it, or a package of it, is missing."""
    check_device(name)
    module, _, cls = DEVICES[name].partition(":")
    device: Device = getattr(importlib.import_module(module), cls)(env, **options)
    return device
