"""Experts for cubes on a table: Lift and Stack."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_envs.robosuite.experts.base import (
    CLOSE,
    OPEN,
    Script,
    ScriptedExpert,
    at,
    body_yaw,
    nearest_yaw,
    yawed,
)

QUARTER = np.pi / 2


class CubeExpert(ScriptedExpert):
    """Approach of a cube from one of several sides, with one of two grasp orientations."""

    sides = ("straight", "left", "right", "front", "high")

    def draw(self) -> str:
        """Side of the approach, grasp face, hover height, grasp offset."""
        self.side = str(self.rng.choice(self.sides))
        self.face = int(self.rng.integers(2))
        self.hover = float(self.rng.uniform(0.05, 0.11))
        self.detour = float(self.rng.uniform(0.06, 0.11))
        self.grasp = self.offset(0.003)
        self.depth = float(self.rng.uniform(-0.006, 0.004))
        return f"{self.side},face{self.face}"

    def position(self, body: str) -> np.ndarray:
        """Present position [3] of a body."""
        return np.array(self.raw.sim.data.body_xpos[self.raw.sim.model.body_name2id(body)])

    def grasp_rotation(self, body: str) -> np.ndarray:
        """Gripper rotation across one of the two pairs of faces of a cube."""
        yaw = nearest_yaw(body_yaw(self.raw, body), self.eef_rotation(), QUARTER)
        if self.face:
            # The other pair of faces, turning the shorter way round from the arm's neutral yaw.
            yaw += -QUARTER if yaw > 0 else QUARTER
        return yawed(yaw)

    def approach(self, body: str, rotation: np.ndarray) -> Script:
        """Above the cube by way of the drawn side, down, and close."""
        aside = {
            "straight": None,
            "left": np.array([0.0, self.detour, self.hover]),
            "right": np.array([0.0, -self.detour, self.hover]),
            "front": np.array([self.detour, 0.0, self.hover]),
            "high": np.array([0.0, 0.0, self.hover + 0.09]),
        }[self.side]
        up = np.array([0.0, 0.0, self.hover])
        if aside is not None:
            yield from self.go(
                lambda: self.position(body) + aside, rotation, OPEN, within=0.025, turn_within=1.0
            )
        yield from self.go(lambda: self.position(body) + up + self.grasp, rotation, OPEN, within=0.012)
        down = np.array([0.0, 0.0, self.depth])
        if self.mistake:
            yield from self.miss(body, rotation)
        yield from self.go(
            lambda: self.position(body) + down + self.grasp, rotation, OPEN, within=0.006, quiet=0.4, limit=40
        )
        yield from self.hold(rotation, CLOSE, 8)

    def miss(self, body: str, rotation: np.ndarray) -> Script:
        """Close beside the cube, then open and come back up."""
        beside = np.array([*self.rng.uniform(0.045, 0.06, 2) * self.rng.choice([-1, 1], 2), 0.03])
        yield from self.go(lambda: self.position(body) + beside, rotation, OPEN, within=0.012, limit=30)
        yield from self.hold(rotation, CLOSE, 6)
        up = np.array([0.0, 0.0, self.hover])
        yield from self.go(lambda: self.position(body) + up, rotation, OPEN, within=0.012, limit=30)

    def held(self, cube: Any) -> bool:
        """Whether both fingers touch the cube."""
        return bool(self.raw._check_grasp(self.raw.robots[0].gripper, cube))


class LiftExpert(CubeExpert):
    """Grasp the cube and raise it; grasps again when it slipped."""

    def script(self) -> Script:
        """Approach, grasp, raise."""
        body = self.raw.cube.root_body
        while True:
            rotation = self.grasp_rotation(body)
            yield from self.approach(body, rotation)
            top = self.eef() + np.array([*self.offset(0.01)[:2], self.rng.uniform(0.09, 0.14)])
            for _ in range(25):
                if not self.held(self.raw.cube):
                    break
                yield from self.go(at(top), rotation, CLOSE, limit=1)
            self.grasp = self.offset(0.003)
            self.side = "straight"
            self.mistake = False


class StackExpert(CubeExpert):
    """Grasp the small cube, carry it over the large one on one of three paths, set it down, let go."""

    paths = ("arc", "high", "around")

    def draw(self) -> str:
        """Approach as for any cube, then the path to the other cube."""
        name = super().draw()
        self.path = str(self.rng.choice(self.paths))
        self.clearance = float(self.rng.uniform(0.06, 0.09)) + (0.07 if self.path == "high" else 0.0)
        self.place = self.offset(0.003)
        return f"{name},{self.path}"

    def script(self) -> Script:
        """Approach, carry, place by the cube's own pose; again when it slipped."""
        a, b = self.raw.cubeA.root_body, self.raw.cubeB.root_body
        top = np.array([0.0, 0.0, 0.045])  # from the centre of the large cube to that of the small one on it
        while True:
            rotation = self.grasp_rotation(a)
            yield from self.approach(a, rotation)
            above = top + self.place + np.array([0.0, 0.0, self.clearance])
            raised = self.eef() + np.array([0.0, 0.0, self.clearance + 0.02])
            yield from self.go(at(raised), rotation, CLOSE, within=0.03, limit=25)
            if self.path == "around":
                between = self.position(b) - self.position(a)
                aside = self.rng.choice([-1, 1]) * 0.08 * np.array([-between[1], between[0], 0.0])
                aside = aside / max(float(np.linalg.norm(between[:2])), 1e-6)
                middle = self.eef() + np.array([*between[:2], 0.0]) / 2 + aside
                yield from self.go(at(middle), rotation, CLOSE, within=0.03, limit=40)
            yield from self.go(
                self.bring(lambda: self.position(a) - self.position(b), above),
                rotation,
                CLOSE,
                within=0.012,
                limit=60,
            )
            down = top + self.place + np.array([0.0, 0.0, 0.001])
            yield from self.go(
                self.bring(lambda: self.position(a) - self.position(b), down),
                rotation,
                CLOSE,
                within=0.004,
                quiet=0.3,
                pace=0.6,
                limit=35,
            )
            yield from self.hold(rotation, OPEN, 8)
            away = self.eef() + np.array([0.0, 0.0, 0.08])
            yield from self.go(at(away), rotation, OPEN, within=0.02, limit=20)
            self.side, self.mistake, self.grasp, self.place = (
                "straight",
                False,
                self.offset(0.002),
                self.offset(0.002),
            )
