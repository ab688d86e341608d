"""Teleoperation of the simulated arms: devices, the recording loop, and what remains of an episode."""

from __future__ import annotations

from sim_envs.teleoperation.device import Command, Device, DeviceLostError, Input, View
from sim_envs.teleoperation.episode import Demonstration
from sim_envs.teleoperation.session import Archive, TeleoperationSession

__all__ = [
    "Archive",
    "Command",
    "Demonstration",
    "Device",
    "DeviceLostError",
    "Input",
    "TeleoperationSession",
    "View",
]
