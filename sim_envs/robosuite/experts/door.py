"""Expert of Door: turn the latch handle, then pull the door open."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.robosuite.experts.base import CLOSE, OPEN, Script, ScriptedExpert, at, limit_norm, yawed

NEUTRAL = np.pi / 2


class DoorExpert(ScriptedExpert):
    """Take the handle from above, press it down about its axis, pull along the door's arc."""

    def draw(self) -> str:
        """Where on the handle, approach, whether to pull while still turning, how far to turn."""
        self.side = str(self.rng.choice(["straight", "high", "back"]))
        self.order = str(self.rng.choice(["turn-then-pull", "together"]))
        self.grip = str(self.rng.choice(["pinch", "hook"]))
        self.along = float(self.rng.uniform(-0.03, 0.01))
        self.turn = float(self.rng.uniform(1.2, 1.4))
        self.hover = float(self.rng.uniform(0.07, 0.12))
        self.tilt = float(self.rng.uniform(0.45, 0.7))
        return f"{self.side},{self.grip},{self.order}"

    def handle(self) -> np.ndarray:
        """The point of the handle to hold, [3]."""
        site = self.raw.door_handle_site_id
        return np.array(self.raw.sim.data.site_xpos[site]) + self.bar() * self.along

    def bar(self) -> np.ndarray:
        """Unit vector [3] along the handle, from its axis to its end."""
        site = np.array(self.raw.sim.data.site_xpos[self.raw.door_handle_site_id])
        axis = np.array(self.raw.sim.data.body_xpos[self.raw.object_body_ids["latch"]])
        out = self.door_rotation()[:, 1]
        reach = site - axis
        reach = reach - out * (reach @ out)
        return reach / np.linalg.norm(reach)

    def door_rotation(self) -> np.ndarray:
        """Rotation [3, 3] of the door leaf."""
        return np.array(self.raw.sim.data.body_xmat[self.raw.object_body_ids["door"]]).reshape(3, 3)

    def wrist(self) -> np.ndarray:
        """Gripper rotation [3, 3] across the handle, tilted so that the hand, wider than the handle's gap, clears the leaf."""
        leaf = np.arctan2(*(self.door_rotation() @ np.array([-1.0, 0.0, 0.0]))[[1, 0]])
        return Rotation.from_euler("zx", [leaf, -self.tilt]).as_matrix() @ yawed(NEUTRAL)

    def angles(self) -> tuple[float, float]:
        """Present hinge and latch angle, rad."""
        qpos = self.raw.sim.data.qpos
        return float(qpos[self.raw.hinge_qpos_addr]), float(qpos[self.raw.handle_qpos_addr])

    def script(self) -> Script:
        """Approach, take, turn, pull; again when the handle slipped away."""
        while True:
            rotation = self.wrist()
            if self.side == "high":
                yield from self.go(
                    lambda: self.handle() + np.array([0, 0.03, 0.16]), rotation, OPEN, within=0.03
                )
            elif self.side == "back":
                yield from self.go(
                    lambda: self.handle() + np.array([-0.09, 0.05, 0.10]), rotation, OPEN, within=0.03
                )
            yield from self.go(
                lambda: self.handle() + np.array([0, 0, self.hover]), rotation, OPEN, within=0.012
            )
            if self.mistake:
                yield from self.go(
                    lambda: self.handle() + np.array([0, 0.06, 0.02]), rotation, OPEN, limit=30
                )
                yield from self.hold(rotation, CLOSE, 8)
                yield from self.go(
                    lambda: self.handle() + np.array([0, 0.03, self.hover]), rotation, OPEN, limit=30
                )
            yield from self.go(self.handle, rotation, OPEN, within=0.008, quiet=0.4, limit=40)
            squeeze = CLOSE if self.grip == "pinch" else OPEN
            if squeeze == CLOSE:
                yield from self.hold(rotation, CLOSE, 8)
            yield from self._turn_and_pull(squeeze)
            self.side, self.mistake, self.grip, self.along = "high", False, "pinch", -0.01
            yield from self.go(lambda: self.handle() + np.array([0, 0.02, 0.12]), rotation, OPEN, limit=25)

    def _turn_and_pull(self, squeeze: float) -> Script:
        """Follow the latch's arc down, then the door's arc out, until the handle is lost."""
        sign = 0.0
        for _ in range(140):
            hinge, latch = self.angles()
            point = self.handle()
            if np.linalg.norm(point - self.eef()) > 0.06:
                return
            out = self.door_rotation()[:, 1]
            out = out * (1.0 if out[1] > 0 else -1.0)
            sign = sign or (1.0 if np.cross(out, self.bar())[2] < 0 else -1.0)
            turned = abs(latch) > self.turn or hinge > 0.06
            # Back to the middle of the bar, or the fingers slide off its end; not along the pull, where the bar pushes.
            back = point - self.eef()
            step = limit_norm(0.5 * (back - out * (back @ out)), 0.015)
            if not turned:
                step += 0.05 * sign * np.cross(out, self.bar())
            if turned or (self.order == "together" and abs(latch) > 0.9):
                leaf = np.array(self.raw.sim.data.body_xpos[self.raw.object_body_ids["door"]])
                step += 0.05 * (out + 0.2 * hinge * (leaf - point))
            rotation = self.wrist()
            yield from self.go(
                at(self.eef() + step),
                rotation,
                squeeze,
                within=0.0,
                turn_within=0.0,
                quiet=0.4,
                limit=1,
            )
