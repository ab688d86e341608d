"""Expert of TwoArmLift: both arms take a handle of the pot and raise it level."""

from __future__ import annotations

import numpy as np

from sim_envs.robosuite.experts.base import (
    CLOSE,
    DOWN,
    OPEN,
    Goal,
    Script,
    ScriptedExpert,
    nearest_yaw,
    yawed,
)

HALF = np.pi


class PotExpert(ScriptedExpert):
    """Arm i takes handle i from above; they wait for each other before they raise the pot."""

    def draw(self) -> str:
        """Which arm goes first, hover height, where along each handle, how high."""
        self.order = str(self.rng.choice(["together", "first0", "first1"]))
        self.side = str(self.rng.choice(["straight", "outside", "high"]))
        self.hover = float(self.rng.uniform(0.06, 0.10))
        self.along = self.rng.uniform(-0.02, 0.02, 2)
        self.rise = float(self.rng.uniform(0.14, 0.18))
        self.depth = float(self.rng.uniform(-0.008, 0.002))
        return f"{self.order},{self.side}"

    def pot(self) -> tuple[np.ndarray, np.ndarray]:
        """Present position [3] and rotation [3, 3] of the pot."""
        body = self.raw.sim.model.body_name2id(self.raw.pot.root_body)
        data = self.raw.sim.data
        return np.array(data.body_xpos[body]), np.array(data.body_xmat[body]).reshape(3, 3)

    def handle(self, arm: int) -> np.ndarray:
        """Where arm `arm` grips, [3]: on the bar of its handle."""
        rotation = self.pot()[1]
        bar = self.raw.sim.data.geom_xpos[self.raw.sim.model.geom_name2id(f"pot_handle{arm}_c")]
        return np.array(bar) + rotation[:, 0] * self.along[arm] + np.array([0.0, 0.0, self.depth])

    def script(self) -> Script:
        """Hover, descend, close, raise; again when a handle slipped."""
        while True:
            x, y = self.pot()[1][:2, 1]
            rotations = []
            for arm in range(2):
                neutral = self.eef_rotation(arm) if arm in (0, 1) else DOWN
                rotations.append(yawed(nearest_yaw(float(np.arctan2(y, x)), neutral, HALF)))
            aside = [np.zeros(3), np.zeros(3)]
            if self.side == "high":
                aside = [np.array([0.0, 0.0, 0.07])] * 2
            elif self.side == "outside":
                aside = [0.06 * s * np.array([x, y, 0.5]) for s in self._outwards(x, y)]
            if self.side != "straight":
                yield from self._move(
                    rotations, [a + np.array([0, 0, self.hover]) for a in aside], OPEN, 0.03, 60
                )
            up = [np.array([0.0, 0.0, self.hover])] * 2
            yield from self._move(rotations, up, OPEN, 0.012, 80)
            if self.mistake:
                yield from self._move(rotations, [np.array([0, 0, 0.03]), np.zeros(3)], OPEN, 0.01, 30)
                yield from self._close(rotations)
                yield from self._move(rotations, up, OPEN, 0.015, 40)
            down = [np.zeros(3)] * 2
            if self.order != "together":
                first = int(self.order[-1])
                yield from self._move(
                    rotations, [down[i] if i == first else up[i] for i in range(2)], OPEN, 0.008, 40
                )
            yield from self._move(rotations, down, OPEN, 0.008, 50, quiet=0.4)
            yield from self._close(rotations)
            yield from self._raise(rotations)
            self.side, self.order, self.mistake = "straight", "together", False
            self.along = np.zeros(2)

    def _outwards(self, x: float, y: float) -> tuple[float, float]:
        """Sign of the pot's radial axis that points away from the pot at each handle."""
        centre = self.pot()[0]
        signs = [float(np.sign((self.handle(arm) - centre)[:2] @ np.array([x, y]))) for arm in range(2)]
        return signs[0], signs[1]

    def _move(
        self,
        rotations: list[np.ndarray],
        offsets: list[np.ndarray],
        grip: float,
        within: float,
        limit: int,
        quiet: float = 1.0,
    ) -> Script:
        """Both arms to their handle plus an offset, until both are there."""
        for _ in range(limit):
            goals = tuple(
                Goal(self.handle(i) + offsets[i], rotations[i], grip, quiet=quiet) for i in range(2)
            )
            far = max(float(np.linalg.norm(goals[i].position - self.eef(i))) for i in range(2))
            turn = max(float(np.linalg.norm(rotations[i] - self.eef_rotation(i))) for i in range(2))
            if far < within and turn < 0.15:
                return
            yield goals

    def _close(self, rotations: list[np.ndarray]) -> Script:
        places = [self.eef(i) for i in range(2)]
        for _ in range(10):
            yield tuple(Goal(places[i], rotations[i], CLOSE, quiet=0.3) for i in range(2))

    def _raise(self, rotations: list[np.ndarray]) -> Script:
        """Raise both grippers at one pace; stops when the pot stays behind."""
        start = [self.eef(i) for i in range(2)]
        bottom = self.pot()[0][2]
        rate = 0.008 * self.pace
        for step in range(60):
            lift = min(step * rate, self.rise)
            if lift > 0.06 and self.pot()[0][2] - bottom < 0.3 * lift:
                return
            yield tuple(
                Goal(start[i] + np.array([0, 0, lift + 0.01]), rotations[i], CLOSE, quiet=0.4)
                for i in range(2)
            )
