"""The ant's gait: walk towards a direction. Where to walk is decided elsewhere (`ant_expert`).

The body looks the same after a quarter turn, so the direction is always brought within 45 degrees of the policy's own
forward by turning the frame and passing the legs on. The learner then has one gait to learn instead of four.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np

HIPS = slice(0, 8, 2)
ANKLES = slice(1, 8, 2)
# Ankles of legs 2 and 3 turn the other way round: with these signs, all legs are alike in their own frames.
SIGNS = np.array([1.0, -1.0, -1.0, 1.0])
# The motors stand in another order than the joints: motor m drives joint JOINT_OF_MOTOR[m].
JOINT_OF_MOTOR = np.array([6, 7, 0, 1, 2, 3, 4, 5])
FEATURES = 28


def quarter(qpos: np.ndarray, direction: np.ndarray) -> int:
    """How many quarter turns bring the body's x axis nearest to `direction` [2] (world)."""
    ahead = _rotation(qpos[3:7])[:, 0]
    angle = np.arctan2(direction[1], direction[0]) - np.arctan2(ahead[1], ahead[0])
    return int(np.round(angle / (np.pi / 2))) % 4


def features(qpos: np.ndarray, qvel: np.ndarray, direction: np.ndarray, turns: int) -> np.ndarray:
    """What the policy sees [28]: height m, up [3], direction [2], velocity [3] m/s and angular velocity [3] rad/s in the
    turned body frame, then hips, ankles and their velocities of the four legs, rad and rad/s.

    qpos [15], qvel [14] of the free body and its eight joints; direction: unit vector [2] (world).
    """
    body = _rotation(qpos[3:7]).T
    turn = _about_z(turns)
    up, ahead, velocity = (turn @ v for v in (body[:, 2], body[:, :2] @ direction, body @ qvel[:3]))
    joints = [_turned(values, turns) for values in (qpos[7:15], qvel[6:14])]
    return np.concatenate([qpos[2:3], up, ahead[:2], velocity, turn @ qvel[3:6], *joints])


def torques(action: np.ndarray, turns: int) -> np.ndarray:
    """Motor commands [8] from the policy's action [8] (hips, then ankles, of the turned legs)."""
    joints = np.empty(8)
    joints[HIPS], joints[ANKLES] = np.roll(action[:4], turns), np.roll(action[4:], turns) * SIGNS
    return joints[JOINT_OF_MOTOR]


class AntCourse(gymnasium.Env):
    """An open plane with targets 3 to 10 m away, one after the other, at 20 Hz.

    Reward: speed towards the target in m/s, up to 3, plus 0.3 for standing, minus 0.05 |action|^2. Ends when the ant falls.
    """

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (8,), np.float32)
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (FEATURES,), np.float64)

    def __init__(self) -> None:
        inner: Any = gymnasium.make("Ant-v5").unwrapped
        self.model, self.data, self.substeps = inner.model, inner.data, inner.frame_skip
        self.start = inner.init_qpos.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        """Any heading, slightly disturbed joints."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        yaw = self.np_random.uniform(-np.pi, np.pi)
        self.data.qpos[:] = self.start
        self.data.qpos[3:7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        self.data.qpos[7:] += self.np_random.uniform(-0.1, 0.1, 8)
        self.data.qvel[:] = 0.1 * self.np_random.standard_normal(14)
        self._aim()
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One control step with an action of the policy."""
        before = self.data.qpos[:2].copy()
        self.data.ctrl[:] = torques(action, self.turns)
        mujoco.mj_step(self.model, self.data, self.substeps)
        moved = (self.data.qpos[:2] - before) / (self.model.opt.timestep * self.substeps)
        reward = min(float(moved @ self.direction), 3.0) + 0.3 - 0.05 * float(np.square(action).sum())
        height, upright = self.data.qpos[2], _rotation(self.data.qpos[3:7])[2, 2]
        if np.linalg.norm(self.target - self.data.qpos[:2]) < 0.5:
            self._aim()
        return self._observe(), reward, bool(not 0.25 < height < 1.2 or upright < 0.3), False, {}

    def _aim(self) -> None:
        angle, distance = self.np_random.uniform(-np.pi, np.pi), self.np_random.uniform(3.0, 10.0)
        self.target = self.data.qpos[:2] + distance * np.array([np.cos(angle), np.sin(angle)])

    def _observe(self) -> np.ndarray:
        gap = self.target - self.data.qpos[:2]
        self.direction = gap / np.linalg.norm(gap)
        self.turns = quarter(self.data.qpos, self.direction)
        return features(self.data.qpos, self.data.qvel, self.direction, self.turns)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of a quaternion (w, x, y, z)."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _about_z(turns: int) -> np.ndarray:
    """Vectors of the body frame seen in a frame that is turned by `turns` quarters."""
    c, s = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float64)


def _turned(joints: np.ndarray, turns: int) -> np.ndarray:
    """Hips [4] and ankles [4] in the order of the turned frame: what is leg 1 there is leg 1 + turns of the body."""
    return np.concatenate([np.roll(joints[HIPS], -turns), np.roll(joints[ANKLES] * SIGNS, -turns)])
