"""What the robosuite tasks observe, read straight from the simulation's present state.

robosuite's own observables lag by a substep and are stale after a reset; these are functions of the state alone, so a
restored state gives the recorded observation again. Quaternions are x, y, z, w; everything is in the world frame
except where a name says `_in_eef`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

ARM = "right"


@dataclass(frozen=True)
class ObjectState:
    """The entry "object" of a scene's observation: a label for each number, and how to read them."""

    names: tuple[str, ...]
    read: Callable[[Any], np.ndarray]


def eef_pose(raw: Any, robot: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Position [3] (m) and rotation matrix [3, 3] of the point between the fingertips of a robot."""
    site = raw.robots[robot].eef_site_id[ARM]
    return np.array(raw.sim.data.site_xpos[site]), np.array(raw.sim.data.site_xmat[site]).reshape(3, 3)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternion (x, y, z, w) of a rotation matrix [3, 3]."""
    wxyz = np.empty(4)
    mujoco.mju_mat2Quat(wxyz, np.ascontiguousarray(rotation, dtype=np.float64).ravel())
    return wxyz[[1, 2, 3, 0]]


def body_pose(raw: Any, body: str) -> tuple[np.ndarray, np.ndarray]:
    """Position [3] and quaternion [4] (x, y, z, w) of a body."""
    index = raw.sim.model.body_name2id(body)
    return np.array(raw.sim.data.body_xpos[index]), np.array(raw.sim.data.body_xquat[index])[[1, 2, 3, 0]]


def _labels(*parts: str) -> tuple[str, ...]:
    """Labels of positions ("cube_pos"), quaternions ("cube_quat") and plain numbers ("hinge")."""
    out: list[str] = []
    for part in parts:
        axes = "xyzw" if part.endswith("quat") else "xyz" if part.endswith("pos") or "_to_" in part else ""
        out += [f"{part}_{axis}" for axis in axes] if axes else [part]
    return tuple(out)


def _lift(raw: Any) -> np.ndarray:
    position, rotation = body_pose(raw, raw.cube.root_body)
    return np.concatenate([position, rotation, position - eef_pose(raw)[0]])


def _stack(raw: Any) -> np.ndarray:
    a, a_rotation = body_pose(raw, raw.cubeA.root_body)
    b, b_rotation = body_pose(raw, raw.cubeB.root_body)
    eef = eef_pose(raw)[0]
    return np.concatenate([a, a_rotation, b, b_rotation, b - a, a - eef, b - eef])


def _relative(raw: Any, body: str) -> np.ndarray:
    """Pose of a body in the gripper's frame, then in the world's: 3 + 4 + 3 + 4 numbers."""
    position, rotation = body_pose(raw, body)
    eef, eef_rotation = eef_pose(raw)
    matrix = np.array(raw.sim.data.body_xmat[raw.sim.model.body_name2id(body)]).reshape(3, 3)
    relative = quaternion(eef_rotation.T @ matrix)
    return np.concatenate([eef_rotation.T @ (position - eef), relative, position, rotation])


def _can(raw: Any) -> np.ndarray:
    return _relative(raw, raw.objects[raw.object_id].root_body)


def _square(raw: Any) -> np.ndarray:
    return _relative(raw, raw.nuts[raw.nut_id].root_body)


def _door(raw: Any) -> np.ndarray:
    data = raw.sim.data
    door = np.array(data.body_xpos[raw.object_body_ids["door"]])
    handle = np.array(data.site_xpos[raw.door_handle_site_id])
    eef = eef_pose(raw)[0]
    joints = [data.qpos[raw.hinge_qpos_addr], data.qpos[raw.handle_qpos_addr]]
    return np.concatenate([door, handle, joints, door - eef, handle - eef])


def _two_arm_lift(raw: Any) -> np.ndarray:
    position, rotation = body_pose(raw, raw.pot.root_body)
    handles = [np.array(raw.sim.data.site_xpos[i]) for i in (raw.handle0_site_id, raw.handle1_site_id)]
    to = [handle - eef_pose(raw, robot)[0] for robot, handle in enumerate(handles)]
    return np.concatenate([position, rotation, *handles, *to])


_RELATIVE = ("{0}_in_eef_pos", "{0}_in_eef_quat", "{0}_pos", "{0}_quat")

OBJECTS = {
    "Lift": ObjectState(_labels("cube_pos", "cube_quat", "eef_to_cube"), _lift),
    "Stack": ObjectState(
        _labels("a_pos", "a_quat", "b_pos", "b_quat", "a_to_b", "eef_to_a", "eef_to_b"),
        _stack,
    ),
    "PickPlaceCan": ObjectState(_labels(*(n.format("can") for n in _RELATIVE)), _can),
    "NutAssemblySquare": ObjectState(_labels(*(n.format("nut") for n in _RELATIVE)), _square),
    "Door": ObjectState(
        _labels("door_pos", "handle_pos", "hinge_angle", "latch_angle", "eef_to_door", "eef_to_handle"),
        _door,
    ),
    "TwoArmLift": ObjectState(
        _labels("pot_pos", "pot_quat", "handle0_pos", "handle1_pos", "eef0_to_handle0", "eef1_to_handle1"),
        _two_arm_lift,
    ),
}


class Proprioception:
    """Gripper pose and opening of each robot (and its joint positions when it is joint-controlled).

    q and -q are one rotation; the sign is the one nearer to the nominal start pose, so that it does not jump while the
    gripper stays within 180 degrees of it.
    """

    def __init__(self, raw: Any, joints: bool):
        self.joints = joints
        self.nominal = [quaternion(_nominal_rotation(raw, i)) for i in range(len(raw.robots))]

    def read(self, raw: Any) -> dict[str, np.ndarray]:
        """One float32 array for each key."""
        out: dict[str, np.ndarray] = {}
        for i, robot in enumerate(raw.robots):
            position, rotation = eef_pose(raw, i)
            rotation_xyzw = quaternion(rotation)
            if rotation_xyzw @ self.nominal[i] < 0:
                rotation_xyzw = -rotation_xyzw
            out[f"robot{i}_eef_pos"] = position
            out[f"robot{i}_eef_quat"] = rotation_xyzw
            out[f"robot{i}_gripper_qpos"] = raw.sim.data.qpos[robot._ref_gripper_joint_pos_indexes[ARM]]
            if self.joints:
                out[f"robot{i}_joint_pos"] = raw.sim.data.qpos[robot._ref_joint_pos_indexes]
        return {key: np.asarray(value, np.float32) for key, value in out.items()}

    def fields(self, raw: Any) -> dict[str, dict[str, Any]]:
        """The contract's fields for `read`."""
        out: dict[str, dict[str, Any]] = {}
        for i, robot in enumerate(raw.robots):
            out[f"robot{i}_eef_pos"] = {"shape": [3], "unit": "m", "frame": "world", "names": list("xyz")}
            out[f"robot{i}_eef_quat"] = {
                "shape": [4], "unit": "quaternion", "frame": "world", "low": [-1.0], "high": [1.0],
                "names": ["qx", "qy", "qz", "qw"],
            }  # fmt: skip
            out[f"robot{i}_gripper_qpos"] = {
                "shape": [2],
                "unit": "m",
                "names": ["left_finger", "right_finger"],
            }
            if self.joints:
                names = [f"joint{j + 1}" for j in range(len(robot._ref_joint_pos_indexes))]
                out[f"robot{i}_joint_pos"] = {"shape": [len(names)], "unit": "rad", "names": names}
        return out


def _nominal_rotation(raw: Any, robot: int) -> np.ndarray:
    """Gripper rotation [3, 3] with the arm at its nominal start pose, computed on a copy of the data."""
    model = raw.sim.model._model
    data = mujoco.MjData(model)
    data.qpos[:] = raw.sim.data.qpos
    data.qpos[raw.robots[robot]._ref_joint_pos_indexes] = raw.robots[robot].init_qpos
    mujoco.mj_kinematics(model, data)
    return np.array(data.site_xmat[raw.robots[robot].eef_site_id[ARM]]).reshape(3, 3)
