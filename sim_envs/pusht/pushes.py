"""Straight pushes of the T: sampled around its outline, simulated in parallel, scored by where they leave the T."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import mujoco.rollout
import numpy as np

from sim_envs.pusht.env import PUSHER_RADIUS, SIZE, SUBSTEPS
from sim_envs.pusht.geometry import OUTLINE, joints_from_pose, pose_from_joints, to_world
from sim_envs.pusht.navigation import CLEARANCE

HOLD_STEPS = 4
"""Control steps at the end of a push in which the pusher comes to rest."""

_EDGES = np.roll(OUTLINE, -1, axis=0) - OUTLINE
_LENGTHS = np.linalg.norm(_EDGES, axis=1)
_NORMALS = np.stack([_EDGES[:, 1], -_EDGES[:, 0]], -1) / _LENGTHS[:, None]


@dataclass(frozen=True)
class Pushes:
    """start, end: pusher positions [N, 2] in m, world frame. targets: set-points [N, steps, 2]."""

    start: np.ndarray
    end: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.start)


def sample(rng: np.random.Generator, pose: np.ndarray, count: int, reach: float, pace: float) -> Pushes:
    """Pushes from random points of the outline, within 40 degrees of the inward normal, inside the workspace.

    reach: longest travel in contact in m. pace: travel of the set-point in one control step in m.
    """
    edge = rng.choice(len(_EDGES), count, p=_LENGTHS / _LENGTHS.sum())
    point = OUTLINE[edge] + rng.uniform(0.05, 0.95, (count, 1)) * _EDGES[edge]
    gap = PUSHER_RADIUS + CLEARANCE + 0.003
    start = to_world(pose, point + gap * _NORMALS[edge])
    inward = to_world(pose, point) - start
    heading = np.arctan2(inward[:, 1], inward[:, 0]) + rng.uniform(-0.7, 0.7, count)
    travel = gap - PUSHER_RADIUS + reach * rng.uniform(0.02, 1.0, count) ** 1.5
    end = start + travel[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    low, high = PUSHER_RADIUS, SIZE - PUSHER_RADIUS
    fits = ((start > low) & (start < high) & (end > low) & (end < high)).all(-1)
    start, end = start[fits], end[fits]
    steps = int(np.ceil((gap + reach) / pace))
    progress = np.arange(1, steps + HOLD_STEPS + 1)[None, :, None] * pace
    travel = np.linalg.norm(end - start, axis=1)[:, None, None]
    targets = start[:, None] + np.minimum(progress / travel, 1.0) * (end - start)[:, None]
    return Pushes(start, end, targets)


class Simulator:
    """Simulates many pushes of one model with `mujoco.rollout`, one thread, so that results repeat."""

    def __init__(self, model: mujoco.MjModel):
        self.model, self.data = model, mujoco.MjData(model)
        self.signature = mujoco.mjtState.mjSTATE_FULLPHYSICS
        self.rollout = mujoco.rollout.Rollout(nthread=0)

    def final_poses(self, pose: np.ndarray, pushes: Pushes) -> np.ndarray:
        """Poses [N, 3] of the T after each push of a resting T at `pose`, the pusher resting at the push's start."""
        size = mujoco.mj_stateSize(self.model, self.signature)
        states = np.zeros((len(pushes), size))
        states[:, 1:4] = joints_from_pose(pose)
        states[:, 4:6] = pushes.start
        control = np.repeat(pushes.targets, SUBSTEPS, axis=1)
        result, _ = self.rollout.rollout(self.model, [self.data], states, control)
        return pose_from_joints(result[:, -1, 1:4])
