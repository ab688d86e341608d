"""What an operator holds, and what it is told: the protocol of every teleoperation device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from sim_envs.errors import SimEnvError

OPEN, CLOSE = -1.0, 1.0


class DeviceLostError(SimEnvError):
    """The device was unplugged, or went silent while it was in use."""


class Command(StrEnum):
    """What an operator can ask for besides motion."""

    START = "start"  # begin to record the episode that is on show
    STOP = "stop"  # end it and keep it
    DISCARD = "discard"  # end it and forget it
    UNDO = "undo"  # delete the episode that was kept last
    SUCCESS = "success"  # label the running episode a success, whatever the simulator says
    FAILURE = "failure"  # label it a failure
    SWITCH_ARM = "switch arm"  # move the other arm of a robot with two
    QUIT = "quit"  # end the session; a running episode is discarded


def _rest() -> np.ndarray:
    return np.zeros(6)


@dataclass(frozen=True)
class Input:
    """What the operator wants now.

    twist: [6] in [-1, 1], the share of the largest translation (x, y, z) and rotation (about x, y, z) of one control
    step, in the world frame. grip: in [-1, 1], positive closes. commands: given since the last read, in order.
    joints: absolute joint positions [7] in rad of a leader arm, instead of the twist.
    """

    twist: np.ndarray = field(default_factory=_rest)
    grip: float = OPEN
    commands: tuple[Command, ...] = ()
    joints: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """What the operator should see after each control step.

    phase: "ready" or "recording". fresh: the episode was reset since the last view, so targets start from the gripper.
    position [3] in m, quaternion [4] (w, x, y, z) and grip: of the led gripper in the world frame. success: the
    simulator's success measure now. images: camera name to uint8 [height, width, 3]; empty when none is due.
    """

    phase: str
    fresh: bool
    steps: int
    stored: int
    success: bool
    message: str
    position: np.ndarray
    quaternion: np.ndarray
    grip: float = OPEN
    images: Mapping[str, np.ndarray] = field(default_factory=dict)


class Device(Protocol):
    """One input device. `help` tells how it is used; `shows_images` asks the session to render the cameras for it."""

    name: str
    help: str
    shows_images: bool

    def read(self) -> Input:
        """The operator's wish at this moment; never waits. Raises DeviceLostError when the device is gone."""

    def show(self, view: View) -> None:
        """Tell the operator where things stand."""

    def close(self) -> None:
        """Let go of the device."""
