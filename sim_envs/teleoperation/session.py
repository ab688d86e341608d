"""The loop of teleoperation: it steps the task at its rate, and keeps, discards and undoes episodes as the operator says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from sim_envs.env import Observation
from sim_envs.errors import SimEnvError
from sim_envs.teleoperation.device import Command, Device, DeviceLostError, View
from sim_envs.teleoperation.driver import Driver
from sim_envs.teleoperation.episode import Demonstration, EpisodeLog

STOP_STEPS = 10  # control steps at rest after the device is lost, half a second at 20 Hz
VIEW_SECONDS = 0.1  # between the images that the operator is shown


class Archive(Protocol):
    """Where demonstrations go."""

    def append(self, demonstration: Demonstration) -> None:
        """Keep it. When this returns it is safe."""

    def undo(self) -> bool:
        """Delete the demonstration kept last in this session; False when there is none."""

    def __len__(self) -> int:
        """How many are kept."""


class TeleoperationSession:
    """One operator at one device in one task.

    seeds: of the episodes, in order; a discarded or undone episode's seed is played again. episodes: how many the archive
    shall hold. cameras: those shown on a device that shows images, `view_size` (height, width) each. realtime: keep to
    the task's rate; without, step as fast as the inputs come.
    """

    def __init__(
        self,
        env: Any,
        device: Device,
        archive: Archive,
        *,
        seeds: Iterator[int],
        episodes: int,
        cameras: Sequence[str] = (),
        view_size: tuple[int, int] = (240, 320),
        realtime: bool = True,
    ) -> None:
        self.env, self.device, self.archive = env.unwrapped, device, archive
        self.driver = Driver(env)
        self.seeds, self.episodes = seeds, episodes
        self.cameras, self.view_size, self.realtime = tuple(cameras), view_size, realtime
        self.message = "ready: start begins to record"
        self.log: EpisodeLog | None = None
        self._again: list[int] = []
        self._kept: list[int] = []
        self._viewed = -np.inf
        self.observation: Observation = {}
        self._prepare()

    def run(self) -> str:
        """Teleoperate until enough episodes are kept ("done"), the operator quits ("quit") or the device is gone ("lost").

        `message` says what happened last. The device is left open.
        """
        due = time.monotonic()
        while len(self.archive) < self.episodes:
            try:
                given = self.device.read()
            except DeviceLostError as lost:
                self._stop_arm(str(lost))
                return "lost"
            for command in given.commands:
                if command is Command.QUIT:
                    self.message = "the operator ended the session"
                    return "quit"
                self._obey(command)
            if self.log is not None:
                # After a switch the input is still meant for the other arm.
                switched = Command.SWITCH_ARM in given.commands
                action, active = (self.driver.rest(), False) if switched else self.driver.action(given)
                self._step(self.log, action, active)
            self._show()
            if self.realtime:
                due = max(due + 1.0 / self.env.task.rate, time.monotonic() - 0.05)
                time.sleep(max(0.0, due - time.monotonic()))
        return "done"

    def _obey(self, command: Command) -> None:
        if command is Command.START and self.log is None:
            self.log = EpisodeLog(self.seed)
            self.message = f"recording the episode of seed {self.seed}"
        elif command is Command.UNDO:
            self._undo()
        elif command is Command.SWITCH_ARM:
            self.driver.switch()
            self._fresh = True  # targets start from the other gripper
        elif self.log is None:
            self.message = f"nothing is being recorded, so there is nothing to {command.value}: start first"
        elif command is Command.STOP:
            self._finish("stopped")
        elif command is Command.DISCARD:
            self._again.append(self.seed)
            self.message = f"discarded {len(self.log)} steps"
            self._prepare()
        elif command in (Command.SUCCESS, Command.FAILURE):
            self.log.label = command is Command.SUCCESS
            self.message = f"labelled a {command.value} by the operator"

    def _step(self, log: EpisodeLog, action: np.ndarray, active: bool) -> None:
        self.observation, terminated, truncated = log.step(self.env, self.observation, action, active)
        if terminated or truncated:
            self._finish("terminated" if terminated else "truncated")

    def _finish(self, ended: str) -> None:
        """Keep the running episode and show the next."""
        assert self.log is not None
        demonstration = self.log.finish(ended, self.env.task.rate, self.device.name)
        if demonstration is None:
            self._again.append(self.seed)
            self.message = f"nothing moved in {len(self.log)} steps: not kept"
        else:
            self.archive.append(demonstration)
            self._kept.append(self.seed)
            label = "success" if demonstration.recording.success else "failure"
            self.message = f"kept {len(demonstration.recording)} steps ({label}, {ended})"
        if len(self.archive) < self.episodes:
            self._prepare()
        else:
            self.log = None

    def _undo(self) -> None:
        if self.log is not None:
            self.message = "an episode is being recorded: discard it, or stop before an undo"
        elif self.archive.undo():
            self._again += [self._kept.pop(), self.seed]
            self.message = f"deleted the last episode; {len(self.archive)} are kept"
            self._prepare()
        else:
            self.message = "this session has kept no episode that could be undone"

    def _stop_arm(self, reason: str) -> None:
        """The device is gone: hold the arm still, keep what was recorded, say so."""
        if self.log is None:
            self.message = f"{reason}; no episode was being recorded"
            return
        log = self.log
        for _ in range(STOP_STEPS):
            self.observation, terminated, truncated = log.step(
                self.env, self.observation, self.driver.rest(), False
            )
            if terminated or truncated:
                break
        self._finish("device lost")
        self.message = f"{reason}; the arm was stopped and {self.message}"
        self._show()

    def _prepare(self) -> None:
        """Reset to the next episode and wait for the start."""
        self.log = None
        seed = min(self._again) if self._again else next(self.seeds, None)
        if seed is None:
            raise SimEnvError("the seeds of this session are used up; start from a lower one")
        self.seed = seed
        self._again = [s for s in self._again if s != self.seed]
        self.observation, _ = self.env.reset(seed=self.seed)
        self.driver.reset()
        self._fresh = True

    def _show(self) -> None:
        images: dict[str, np.ndarray] = {}
        now = time.monotonic()
        if self.device.shows_images and (self._fresh or now - self._viewed >= VIEW_SECONDS):
            images = {camera: self.env.render_image(camera, *self.view_size) for camera in self.cameras}
            # Counted from the end: slow rendering then leaves time for control.
            self._viewed = time.monotonic()
        position, quaternion = self.driver.pose()
        self.device.show(
            View(
                phase="ready" if self.log is None else "recording",
                fresh=self._fresh,
                steps=0 if self.log is None else len(self.log),
                stored=len(self.archive),
                success=self.env.success(),
                message=self.message,
                position=position,
                quaternion=quaternion,
                grip=self.driver.grips[self.driver.arm],
                images=images,
            )
        )
        self._fresh = False
