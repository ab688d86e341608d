"""The Push-T demonstrator: search over simulated pushes.

Again and again it samples pushes around the T, simulates them, takes one that leaves the T nearest to the goal, goes
around the T to where the push starts, and pushes.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from sim_envs.env import Observation
from sim_envs.experts import Noise, quality_named
from sim_envs.pusht import geometry, navigation
from sim_envs.pusht.env import SIZE, PushT
from sim_envs.pusht.pushes import Pushes, Simulator, sample
from sim_envs.spec import TaskSpec

CANDIDATES = {"expert": 120, "good": 60, "okay": 24, "poor": 8}
STRATEGIES = {"balanced": (1.0, 0.05), "angle first": (0.5, 0.08), "place first": (1.2, 0.02)}
"""Weights of the distance of the centres and of the angle's error (m for each rad) that judge a push from afar."""


class PushTExpert:
    """Reaches 95 % coverage by simulated search. `mode` names how pushes are judged and how boldly it chooses."""

    version = "2"

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        self.candidates = CANDIDATES[quality]
        self.mode = ""
        self.plan: deque[np.ndarray] = deque()

    def reset(self, env: Any) -> None:
        """Draw how pushes are judged, the pace and the boldness of choice."""
        base: PushT = env.unwrapped
        self.simulator = Simulator(base.model)
        self.strategy = str(self.rng.choice(list(STRATEGIES)))
        self.hasty = bool(self.rng.random() < 0.5)
        self.pace = self.quality.speed * (
            self.rng.uniform(0.018, 0.024) if self.hasty else self.rng.uniform(0.013, 0.018)
        )
        self.noise = Noise(self.rng, np.full(2, 0.0008 * self.quality.noise))
        self.wrong = self.rng.random() < self.quality.mistakes
        self.mode = f"{self.strategy},{'long' if self.hasty else 'short'} pushes"
        self.plan.clear()

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """The next set-point of the pusher, float32 [2] in m."""
        base: PushT = env.unwrapped
        if not self.plan:
            self.plan = self._next_push(base)
        target = self.plan.popleft() + self.noise.step()
        return np.clip(target, 0.0, SIZE).astype(np.float32)

    def _next_push(self, base: PushT) -> deque[np.ndarray]:
        pose, pusher = base.block_pose, base.pusher_position
        now = self._cost(pose)
        far = float(geometry.keypoint_distance(pose))
        best: tuple[float, np.ndarray, list[np.ndarray]] | None = None
        for reach in (1.6 * far + 0.004, 0.8 * far + 0.002, 0.08):
            pushes = sample(
                self.rng, pose, self.candidates, min(reach, 0.2 if self.hasty else 0.1), self.pace
            )
            if not len(pushes):
                continue
            best = self._choose(pose, pusher, pushes)
            if best and best[0] < 0.97 * now:
                break
        if best is None:
            return deque(
                [geometry.to_world(pose, navigation.escape(geometry.to_block(pose, pusher))[None])[0]]
            )
        _, targets, way = best
        return deque([*self._walk(pusher, way), *targets])

    def _choose(
        self, pose: np.ndarray, pusher: np.ndarray, pushes: Pushes
    ) -> tuple[float, np.ndarray, list[np.ndarray]] | None:
        """(cost, set-points, way to the start) of the push that leaves the T best, walking counted a little."""
        length, ways = navigation.path(pose, pusher, pushes.start)
        cost = self._cost(self.simulator.final_poses(pose, pushes))
        score = cost + 0.01 * length * min(1.0, float(geometry.keypoint_distance(pose)) / 0.05)
        if self.wrong:
            score = score + self.rng.normal(0.0, 0.004 * self.quality.offset, len(score))
        if not np.isfinite(score).any():
            return None
        index = int(np.argmin(score))
        targets = pushes.targets[index]
        arrived = np.linalg.norm(targets - pushes.end[index], axis=1) < 1e-9
        stop = int(np.argmax(arrived)) + 4
        return float(cost[index]), targets[:stop], ways[index]

    def _cost(self, pose: np.ndarray) -> np.ndarray:
        """How far poses [..., 3] are from the goal, in m; walls count when the T comes near them."""
        place, turn = STRATEGIES[self.strategy]
        corners_off = geometry.keypoint_distance(pose)
        centre = geometry.joints_from_pose(pose)[..., :2] - geometry.joints_from_pose(geometry.GOAL_POSE)[:2]
        angle = np.abs((pose[..., 2] - geometry.GOAL_POSE[2] + np.pi) % (2 * np.pi) - np.pi)
        corners = geometry.to_world(pose, geometry.OUTLINE)
        wall = np.maximum(0.045 - np.minimum(corners, SIZE - corners), 0).max((-1, -2))
        afar = np.clip(corners_off / 0.05, 0.0, 1.0)
        return (
            afar * (place * np.linalg.norm(centre, axis=-1) + turn * angle) + (1 - afar) * corners_off + wall
        )

    def _walk(self, start: np.ndarray, way: list[np.ndarray]) -> list[np.ndarray]:
        """Set-points along the way points at twice the pace, then a short rest."""
        points: list[np.ndarray] = []
        for end in way:
            distance = float(np.linalg.norm(end - start))
            count = max(int(np.ceil(distance / (1.7 * self.pace))), 1) if distance > 1e-6 else 0
            points += [start + (end - start) * k / count for k in range(1, count + 1)]
            start = end
        return [*points, *([start] * 4)]
