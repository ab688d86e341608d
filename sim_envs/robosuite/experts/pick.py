"""Experts that move an object to a place: PickPlaceCan and NutAssemblySquare."""

from __future__ import annotations

import numpy as np

from sim_envs.robosuite.experts.base import (
    CLOSE,
    OPEN,
    Script,
    ScriptedExpert,
    at,
    body_yaw,
    near,
    nearest_yaw,
    yawed,
)

HALF, QUARTER = np.pi, np.pi / 2
NEUTRAL = QUARTER  # yaw of the fingers' axis at the Panda's start pose


def up(height: float) -> np.ndarray:
    """A vertical displacement [3]."""
    return np.array([0.0, 0.0, height])


class CanExpert(ScriptedExpert):
    """Grasp the can from above, carry it over the wall between the bins, lower it and let go."""

    def draw(self) -> str:
        """Grasp yaw, side of the approach, path of the carry, drop height."""
        self.yaw = float(self.rng.choice([0.0, QUARTER]) + self.rng.uniform(-0.25, 0.25))
        self.side = str(self.rng.choice(["straight", "near", "far"]))
        self.path = str(self.rng.choice(["direct", "square", "high"]))
        self.hover = float(self.rng.uniform(0.08, 0.12))
        self.depth = float(self.rng.uniform(-0.005, 0.02))
        self.carry = float(self.rng.uniform(0.16, 0.20)) + (0.08 if self.path == "high" else 0.0)
        self.drop = float(self.rng.uniform(0.02, 0.07))
        self.grasp = self.offset(0.003)
        self.aim = self.offset(0.012)
        name = "across" if abs(self.yaw) < 0.5 else "along"
        return f"{name},{self.side},{self.path}"

    def can(self) -> np.ndarray:
        """Present position [3] of the can."""
        return np.array(
            self.raw.sim.data.body_xpos[self.raw.obj_body_id[self.raw.objects[self.raw.object_id].name]]
        )

    def script(self) -> Script:
        """Approach, carry, lower, release, leave; again when it slipped."""
        goal = np.array(self.raw.target_bin_placements[self.raw.object_id]) + self.aim
        while True:
            rotation = yawed(nearest_yaw(self.yaw, self.eef_rotation(), HALF))
            if self.side != "straight":
                aside = np.array([0.08 if self.side == "far" else -0.08, 0.0, self.hover + 0.03])
                yield from self.go(near(self.can, aside), rotation, OPEN, within=0.03, turn_within=1.0)
            yield from self.go(lambda: self.can() + self.grasp + up(self.hover), rotation, OPEN, within=0.012)
            if self.mistake:
                beside = np.array([*self.rng.uniform(0.07, 0.08, 2) * self.rng.choice([-1, 1], 2), 0.05])
                yield from self.go(near(self.can, beside), rotation, OPEN, within=0.015, limit=30)
                yield from self.hold(rotation, CLOSE, 6)
                yield from self.go(
                    lambda: self.can() + up(self.hover + 0.05), rotation, OPEN, within=0.02, limit=40
                )
            yield from self.go(
                lambda: self.can() + self.grasp + up(self.depth),
                rotation,
                OPEN,
                within=0.006,
                quiet=0.4,
                limit=40,
            )
            yield from self.hold(rotation, CLOSE, 8)
            raised = self.eef() + up(self.carry)
            yield from self.go(at(raised), rotation, CLOSE, within=0.03, limit=40)
            if self.path == "square":
                corner = np.array([self.eef()[0], goal[1], raised[2]])
                yield from self.go(at(corner), rotation, CLOSE, within=0.04, limit=60)
            over = goal + up(0.04 + self.carry)
            yield from self.go(self.bring(self.can, over), rotation, CLOSE, within=0.02, limit=70)
            low = goal + up(0.04 + self.drop)
            yield from self.go(
                self.bring(self.can, low),
                rotation,
                CLOSE,
                within=0.015,
                quiet=0.5,
                limit=45,
            )
            yield from self.hold(rotation, OPEN, 6)
            away = self.eef() + up(0.18)
            yield from self.go(at(away), rotation, OPEN, within=0.02, limit=35)
            self.side, self.mistake, self.grasp, self.aim = (
                "straight",
                False,
                self.offset(0.002),
                self.offset(0.006),
            )


class SquareExpert(ScriptedExpert):
    """Grasp the nut by its handle, turn it square to the peg, lower it over the peg, let go."""

    wrist_range = 2.05  # rad that the wrist turns either way from its neutral yaw
    handle = np.array([0.054, 0.0, 0.0])  # centre of the handle in the nut's frame, m

    def draw(self) -> str:
        """Grasp point along the handle, side of the approach, path, which quarter turn fits the peg."""
        self.side = str(self.rng.choice(["straight", "left", "right"]))
        self.path = str(self.rng.choice(["direct", "near", "high"]))
        self.quarter = str(self.rng.choice(["nearest", "other"], p=[0.75, 0.25]))
        self.hover = float(self.rng.uniform(0.06, 0.10))
        self.along = float(np.clip(self.rng.normal(0.004, 0.004 * self.level.offset), -0.008, 0.016))
        self.clearance = float(self.rng.uniform(0.05, 0.08)) + (0.05 if self.path == "high" else 0.0)
        self.aim = self.offset(0.0008)
        return f"{self.side},{self.path},{self.quarter}"

    def nut(self) -> tuple[np.ndarray, np.ndarray]:
        """Present position [3] and rotation [3, 3] of the nut."""
        body = self.raw.obj_body_id[self.raw.nuts[self.raw.nut_id].name]
        data = self.raw.sim.data
        return np.array(data.body_xpos[body]), np.array(data.body_xmat[body]).reshape(3, 3)

    def grip_point(self) -> np.ndarray:
        """Where the fingers close, [3]."""
        position, rotation = self.nut()
        return position + rotation @ (self.handle + np.array([self.along, 0.0, 0.0]))

    def script(self) -> Script:
        """Approach, grasp, carry, fit, release, leave; again when it slipped."""
        nut = self.raw.nuts[self.raw.nut_id].root_body
        peg = np.array(self.raw.sim.data.body_xpos[self.raw.peg1_body_id])
        peg_top = peg[2] + 0.1
        while True:
            yaw = nearest_yaw(body_yaw(self.raw, nut) + QUARTER, yawed(NEUTRAL), HALF)
            rotation = yawed(yaw)
            if self.side != "straight":
                aside = np.array([0.0, 0.08 if self.side == "left" else -0.08, self.hover + 0.03])
                yield from self.go(near(self.grip_point, aside), rotation, OPEN, within=0.03, turn_within=1.0)
            yield from self.go(
                lambda: self.grip_point() + up(self.hover), rotation, OPEN, within=0.008, turn_within=0.06
            )
            if self.mistake:
                yield from self.go(
                    lambda: self.grip_point() + np.array([0.0, 0.0, 0.035]),
                    rotation,
                    OPEN,
                    within=0.01,
                    limit=25,
                )
                yield from self.hold(rotation, CLOSE, 8)
                yield from self.go(
                    lambda: self.grip_point() + up(self.hover), rotation, OPEN, within=0.02, limit=25
                )
            yield from self.go(
                self.grip_point,
                rotation,
                OPEN,
                within=0.005,
                turn_within=0.06,
                quiet=0.25,
                limit=50,
            )
            yield from self.hold(rotation, CLOSE, 9)
            height = peg_top + self.clearance
            start = self.eef()
            yield from self.go(
                at(np.array([start[0], start[1], height])), rotation, CLOSE, within=0.03, limit=50
            )
            if self.path == "near":
                corner = np.array([self.eef()[0] + 0.1, peg[1] - 0.06, height])
                yield from self.go(at(corner), rotation, CLOSE, within=0.04, limit=50)
            yield from self._fit(nut, peg, peg_top, yaw)
            yield from self.hold(self.eef_rotation(), OPEN, 7)
            away, still = self.eef() + up(0.10), self.eef_rotation()
            yield from self.go(at(away), still, OPEN, within=0.02, limit=25)
            self.side, self.path, self.mistake, self.aim = "straight", "direct", False, self.offset(0.0005)

    def _fit(self, nut: str, peg: np.ndarray, peg_top: float, yaw: float) -> Script:
        """Turn the held nut square to the peg, centre it over the peg, lower it."""
        held = body_yaw(self.raw, nut)
        # With the handle on the far side of the peg the gripper would be out of reach, so that quarter is left out.
        turns = [(final - held + np.pi) % (2 * np.pi) - np.pi for final in (QUARTER, np.pi, -QUARTER)]
        turns = sorted((t for t in turns if abs(yaw + t - NEUTRAL) < self.wrist_range), key=abs)
        turn = turns[1] if self.quarter == "other" and len(turns) > 1 else turns[0]
        square = yawed(yaw + turn)
        over = np.array([*peg[:2], peg_top + self.clearance]) + self.aim
        yield from self.go(
            self.bring(lambda: self.nut()[0], over), square, CLOSE, within=0.02, turn_within=0.1, limit=80
        )

        def trimmed() -> np.ndarray:
            error = (-body_yaw(self.raw, nut) + QUARTER / 2) % QUARTER - QUARTER / 2
            return yawed(nearest_yaw(0.0, self.eef_rotation(), 1e-9) + error)

        for height, within, limit in ((0.035, 0.004, 50), (-0.075, 0.02, 70)):
            level = np.array([*peg[:2], peg_top + height]) + self.aim
            for _ in range(limit):
                position = self.nut()[0]
                if np.linalg.norm(level - position) < within:
                    break
                # Down only while it is centred: what limits the step would else leave nothing for the sideways error.
                centred = np.linalg.norm((level - position)[:2]) < 0.004 or position[2] < peg_top - 0.005
                goal = level if centred else np.array([*level[:2], max(position[2], peg_top + 0.02)])
                yield from self.go(
                    self.bring(lambda: self.nut()[0], goal),
                    trimmed(),
                    CLOSE,
                    within=0.0,
                    quiet=0.2,
                    pace=0.6,
                    limit=1,
                )
