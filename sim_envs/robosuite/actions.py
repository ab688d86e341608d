"""The action spaces of the robosuite tasks: Cartesian or joint control, by deltas or set-points.

A gripper command is one number for each arm, its last: positive closes, negative opens, at a fixed finger speed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.errors import unknown
from sim_envs.robosuite.observations import ARM, eef_pose

CONTROLLERS = ("OSC_POSE", "JOINT_POSITION")
MODES = ("delta", "absolute")

TRANSLATION = 0.05  # metres that a Cartesian delta of 1 stands for (robosuite's default)
ROTATION = 0.5  # radians that a rotational delta of 1 stands for (robosuite's default)
JOINT = 0.2  # radians that a joint delta of 1 stands for
WORKSPACE = ((-1.2, -1.2, 0.5), (1.2, 1.2, 2.2))  # range of absolute positions in the world frame, m


@dataclass(frozen=True)
class Twist:
    """One arm's command from a demonstrator or an operator, whatever the controller.

    move: displacement [3] in m in the world frame; turn: rotation vector [3] in rad in the world frame, both towards
    where the gripper should be heading now; grip: in [-1, 1], positive closes.
    """

    move: np.ndarray
    turn: np.ndarray
    grip: float


def check(controller: str, action_mode: str) -> None:
    """Raise SimEnvError for an unknown controller or action mode."""
    if controller not in CONTROLLERS:
        raise unknown("controller", controller, CONTROLLERS)
    if action_mode not in MODES:
        raise unknown("action_mode", action_mode, MODES)


def controller_config(package: Any, controller: str, action_mode: str) -> dict[str, Any]:
    """robosuite's composite configuration of one Panda."""
    config = copy.deepcopy(package.load_composite_controller_config(controller="BASIC", robot="Panda"))
    arm = config["body_parts"]["right"]
    config["body_parts"] = {
        "right": arm
    }  # a Panda has no other part, and robosuite warns about each at every reset
    if controller == "OSC_POSE":
        arm.update(input_type=action_mode, input_ref_frame="base" if action_mode == "delta" else "world")
        return config
    gripper = arm["gripper"]
    arm.clear()
    arm.update(
        type="JOINT_POSITION",
        input_type=action_mode,
        input_max=1,
        input_min=-1,
        output_max=JOINT,
        output_min=-JOINT,
        kp=150,
        damping_ratio=1,
        impedance_mode="fixed",
        kp_limits=[0, 300],
        damping_ratio_limits=[0, 10],
        qpos_limits=None,
        interpolation=None,
        ramp_ratio=0.2,
        gripper=gripper,
    )
    return config


def action_field(raw: Any, controller: str, action_mode: str) -> dict[str, Any]:
    """The contract's description of the action of all robots, in order."""
    low: list[float] = []
    high: list[float] = []
    names: list[str] = []
    joint = controller == "JOINT_POSITION"
    for i, robot in enumerate(raw.robots):
        labels = [f"joint{j + 1}" for j in range(7)] if joint else ["x", "y", "z", "rx", "ry", "rz"]
        names += [f"robot{i}_{label}" for label in [*labels, "gripper"]]
        if action_mode == "delta":
            bottom, top = [-1.0] * len(labels), [1.0] * len(labels)
        elif joint:
            limits = raw.sim.model.jnt_range[robot._ref_joint_indexes]
            bottom, top = limits[:, 0].tolist(), limits[:, 1].tolist()
        else:
            bottom, top = [*WORKSPACE[0], *[-2 * np.pi] * 3], [*WORKSPACE[1], *[2 * np.pi] * 3]
        low += [*bottom, -1.0]
        high += [*top, 1.0]
    units = {
        ("OSC_POSE", "delta"): f"{TRANSLATION} m, {ROTATION} rad (rotation vector)",
        ("OSC_POSE", "absolute"): "m, rad (rotation vector)",
        ("JOINT_POSITION", "delta"): f"{JOINT} rad",
        ("JOINT_POSITION", "absolute"): "rad",
    }
    frame = "" if joint else "robot base" if action_mode == "delta" else "world"
    return {
        "shape": [len(names)], "dtype": "float32", "unit": f"{units[controller, action_mode]}; gripper -1 opens, +1 closes",
        "frame": frame, "low": low, "high": high, "names": names, "meaning": action_mode,
        "space": "joint" if joint else "cartesian", "controller": controller,
    }  # fmt: skip


def encode(raw: Any, controller: str, action_mode: str, twists: tuple[Twist, ...]) -> np.ndarray:
    """The action [dimension], float32, that sends each arm along its twist from where it is now."""
    parts = []
    for i, twist in enumerate(twists):
        if controller == "OSC_POSE":
            parts.append(_cartesian(raw, i, action_mode, twist))
        else:
            parts.append(_joint(raw, i, action_mode, twist))
        parts.append(np.array([np.clip(twist.grip, -1, 1)]))
    return np.concatenate(parts).astype(np.float32)


def _cartesian(raw: Any, robot: int, action_mode: str, twist: Twist) -> np.ndarray:
    move = np.clip(twist.move, -TRANSLATION, TRANSLATION)
    turn = np.clip(twist.turn, -ROTATION, ROTATION)
    if action_mode == "delta":
        base = _base_rotation(raw, robot)
        delta = np.concatenate([base.T @ move / TRANSLATION, base.T @ turn / ROTATION])
        return np.clip(delta, -1, 1)
    position, rotation = eef_pose(raw, robot)
    target = Rotation.from_rotvec(turn) * Rotation.from_matrix(rotation)
    return np.concatenate([position + move, target.as_rotvec()])


def _joint(raw: Any, robot: int, action_mode: str, twist: Twist) -> np.ndarray:
    """Damped least squares on the gripper's Jacobian."""
    model, data = raw.sim.model._model, raw.sim.data._data
    jacobian = np.zeros((6, model.nv))
    mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], raw.robots[robot].eef_site_id[ARM])
    jacobian = jacobian[:, raw.robots[robot]._ref_joint_vel_indexes]
    wish = np.concatenate(
        [np.clip(twist.move, -TRANSLATION, TRANSLATION), np.clip(twist.turn, -ROTATION, ROTATION)]
    )
    step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(6), wish)
    step *= min(1.0, JOINT / max(np.abs(step).max(), 1e-9))
    if action_mode == "delta":
        return np.clip(step / JOINT, -1, 1)
    return np.array(data.qpos[raw.robots[robot]._ref_joint_pos_indexes]) + step


def _base_rotation(raw: Any, robot: int) -> np.ndarray:
    site = raw.sim.model.site_name2id(f"{raw.robots[robot].robot_model.naming_prefix}{ARM}_center")
    return np.array(raw.sim.data.site_xmat[site]).reshape(3, 3)
