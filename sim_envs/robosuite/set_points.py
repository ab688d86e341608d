"""Recorded Cartesian actions of one arm as the poses that they send the gripper to, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.robosuite.actions import ROTATION, TRANSLATION, Twist
from sim_envs.robosuite.observations import eef_pose


def set_points(
    position: np.ndarray, quaternion: np.ndarray, action: np.ndarray, action_mode: str
) -> tuple[np.ndarray, Rotation]:
    """Positions [T, 3] (m, world) and rotations (T) that actions [T, 7] send a gripper to from its poses.

    position [T, 3], quaternion [T, 4] (x, y, z, w) before each action. A delta counts from there; the single arm's base
    looks along the world's axes.
    """
    action = np.asarray(action, np.float64)
    if action_mode == "absolute":
        return action[:, :3], Rotation.from_rotvec(action[:, 3:6])
    turned = Rotation.from_rotvec(ROTATION * action[:, 3:6]) * Rotation.from_quat(quaternion)
    return position + TRANSLATION * action[:, :3], turned


def towards(env: Any, position: np.ndarray, rotation: np.ndarray, grip: float) -> np.ndarray:
    """The action, float32 [7], that sends the gripper to a position [3] and rotation vector [3] with the controller in use.

    One step's largest displacement limits both.
    """
    raw = env.unwrapped.raw
    now, present = eef_pose(raw)
    turn = Rotation.from_rotvec(rotation) * Rotation.from_matrix(present).inv()
    action: np.ndarray = env.unwrapped.encode(Twist(position - now, turn.as_rotvec(), grip))
    return action
