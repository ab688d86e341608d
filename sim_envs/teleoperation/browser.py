"""The browser as a device: a page on which a person drags the gripper's target and sees the cameras."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.errors import require
from sim_envs.scene import MujocoScene
from sim_envs.teleoperation.device import CLOSE, OPEN, Command, Input, View
from sim_envs.teleoperation.tracking import twist_towards

STEPS = {
    "1 cm": 0.01,
    "3 cm": 0.03,
    "3 mm": 0.003,
}  # lengths of a nudge; the first holds until another is pressed
YAW_STEP = np.deg2rad(10.0)
JPEG_QUALITY = 80


class BrowserDevice:
    """Serves a viser page on `host`:`port` (0 takes a free port); whoever opens it leads the gripper.

    The target is a pose in the world frame. It is dragged by its handles in the 3-D scene or nudged by buttons, and the
    arm follows it at a bounded speed. cameras: names with a picture on the page, of `view_size` (height, width).
    scene: also show the simulation as meshes, which the handles are dragged in.
    """

    name = "browser"
    shows_images = True

    def __init__(
        self,
        env: Any,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        cameras: Sequence[str] = (),
        view_size: tuple[int, int] = (240, 320),
        scene: bool = True,
    ) -> None:
        viser = require("viser", "view")
        self.env = env.unwrapped
        self._lock = threading.RLock()
        self._commands: list[Command] = []
        self._pose = (np.zeros(3), Rotation.identity())
        self._target = self._pose
        self._grip = OPEN
        self.server = viser.ViserServer(host=host, port=port, verbose=False)
        self.server.initial_camera.position = (1.1, 0.9, 1.6)
        self.server.initial_camera.look_at = (0.0, 0.0, 0.85)
        self.address = f"http://{host}:{self.server.get_port()}"
        self.help = f"open {self.address}"
        self._with_scene = scene
        self._scene: MujocoScene | None = None
        self._build(cameras, view_size)

    def read(self) -> Input:
        """The way to the target, cut to one control step, and the buttons pressed since the last read."""
        with self._lock:
            commands, self._commands = tuple(self._commands), []
            return Input(twist_towards(self._pose, self._target), self._grip, commands)

    def show(self, view: View) -> None:
        """Put the state of the session on the page."""
        with self._lock:
            w, x, y, z = view.quaternion
            self._pose = (view.position.copy(), Rotation.from_quat([x, y, z, w]))
            if view.fresh:
                self._grip = view.grip
                self._aim(*self._pose)
                self._show_scene(rebuild=True)
            target = self._target[0]
        for camera, image in view.images.items():
            self._images[camera].image = image
        if view.images or view.fresh:
            self._show_scene(rebuild=False)
        text = (
            f"**{view.phase}** · step {view.steps} · stored {view.stored} · success: {'yes' if view.success else 'no'}\n\n"
            f"gripper {_text(view.position)} {'closed' if view.grip > 0 else 'open'} · target {_text(target)} · nudge {self._step.value}\n\n"
            f"{view.message}"
        )
        if text != self._status.content:
            self._status.content = text

    def drag(self, position: np.ndarray, quaternion: np.ndarray) -> None:
        """Aim at `position` [3] (m) and `quaternion` [4] (w, x, y, z), as the handles in the scene do."""
        w, x, y, z = quaternion
        with self._lock:
            self._target = (np.array(position, np.float64), Rotation.from_quat([x, y, z, w]))

    def nudge(self, direction: np.ndarray) -> None:
        """Move the target by one step along `direction` [3] in the world frame."""
        with self._lock:
            length = STEPS[self._step.value]
            self._aim(self._target[0] + length * np.asarray(direction, np.float64), self._target[1])

    def turn(self, sign: float) -> None:
        """Turn the target about the vertical by 10 degrees."""
        with self._lock:
            self._aim(self._target[0], Rotation.from_rotvec([0, 0, sign * YAW_STEP]) * self._target[1])

    def close(self) -> None:
        """Stop serving the page."""
        self.server.stop()

    def _aim(self, position: np.ndarray, rotation: Rotation) -> None:
        x, y, z, w = rotation.as_quat()
        self._target = (np.array(position), rotation)
        self._handle.position, self._handle.wxyz = tuple(position), (w, x, y, z)

    def _build(self, cameras: Sequence[str], view_size: tuple[int, int]) -> None:
        gui = self.server.gui
        gui.add_markdown(f"**{self.env.task.id}** · {self.env.task.success}")
        self._status = gui.add_markdown("")
        blank = np.zeros((*view_size, 3), np.uint8)
        self._images = {
            camera: gui.add_image(blank, label=camera, format="jpeg", jpeg_quality=JPEG_QUALITY)
            for camera in cameras
        }
        with gui.add_folder("episode"):
            for command in (Command.START, Command.STOP, Command.DISCARD, Command.UNDO):
                self._button(command.value, self._giver(command))
            self._button("label success", self._giver(Command.SUCCESS))
            self._button("label failure", self._giver(Command.FAILURE))
            if len(self.env.raw.robots) > 1:
                self._button(Command.SWITCH_ARM.value, self._giver(Command.SWITCH_ARM))
            self._button("quit", self._giver(Command.QUIT))
        with gui.add_folder("gripper"):
            self._button("open", lambda: self._set_grip(OPEN))
            self._button("close", lambda: self._set_grip(CLOSE))
            self._step = gui.add_button_group("nudge by", tuple(STEPS))
            for axis, letter in enumerate("xyz"):
                for sign in (-1, 1):
                    direction = sign * np.eye(3)[axis]
                    self._button(
                        f"{'+' if sign > 0 else '-'}{letter}", functools.partial(self.nudge, direction)
                    )
            self._button("-yaw", lambda: self.turn(-1.0))
            self._button("+yaw", lambda: self.turn(1.0))
        self._handle = self.server.scene.add_transform_controls("/target", scale=0.15)
        self._handle.on_update(lambda _: self.drag(self._handle.position, self._handle.wxyz))

    def _button(self, label: str, act: Callable[[], None]) -> None:
        self.server.gui.add_button(label).on_click(lambda _: act())

    def _giver(self, command: Command) -> Callable[[], None]:
        def give() -> None:
            with self._lock:
                self._commands.append(command)

        return give

    def _set_grip(self, grip: float) -> None:
        with self._lock:
            self._grip = grip

    def _show_scene(self, rebuild: bool) -> None:
        if not self._with_scene:
            return
        model, data = self.env.physics()
        if rebuild and (self._scene is None or self._scene.model is not model):
            self._scene = MujocoScene(self.server, model)
        if self._scene is not None:
            self._scene.update(data)


def _text(position: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in position) + ") m"
