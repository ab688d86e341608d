"""From where the gripper is and should be to the twist of one control step."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.robosuite.actions import ROTATION, TRANSLATION

GAIN = 2.0  # displacement commanded for each metre, and rotation for each radian, of distance to the target
DEAD_ZONE = (0.002, 0.02)  # m and rad: a target this near is reached
LARGEST = np.array([TRANSLATION] * 3 + [ROTATION] * 3)

Pose = tuple[np.ndarray, Rotation]


def twist_towards(pose: Pose, target: Pose) -> np.ndarray:
    """Twist [6] in shares of the largest step, each half at most 1, from `pose` towards `target` (position [3] m, rotation)."""
    move = target[0] - pose[0]
    turn = (target[1] * pose[1].inv()).as_rotvec()
    move = move if np.linalg.norm(move) > DEAD_ZONE[0] else np.zeros(3)
    turn = turn if np.linalg.norm(turn) > DEAD_ZONE[1] else np.zeros(3)
    wish = GAIN * np.concatenate([move, turn]) / LARGEST
    # Each half is shortened as a whole, so that the gripper moves straight.
    for half in (slice(0, 3), slice(3, 6)):
        wish[half] /= max(1.0, float(np.abs(wish[half]).max()))
    return wish
