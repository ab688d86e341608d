"""Exact save and restore of a robosuite simulation.

Besides MuJoCo's own state the continuation depends on the gripper's ramped command, on the joint posture that the
operational-space controller keeps in its null space, and (Door) on a body pose that reset writes into the model.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from sim_envs.errors import SimEnvError
from sim_envs.robosuite.observations import ARM

_STATE = (
    mujoco.mjtState.mjSTATE_TIME
    | mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_ACT
    | mujoco.mjtState.mjSTATE_WARMSTART
)
_FINGERS = 2


def capture(raw: Any, steps: int) -> np.ndarray:
    """float64 [n]: step count, MuJoCo state, each gripper's command, each arm's posture, the door's pose."""
    model, data = raw.sim.model._model, raw.sim.data._data
    physics = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, physics, _STATE)
    parts = [np.array([float(steps)]), physics]
    for robot in raw.robots:
        parts.append(np.broadcast_to(np.asarray(robot.gripper[ARM].current_action, float), (_FINGERS,)))
        parts.append(np.asarray(robot.part_controllers[ARM].initial_joint, float))
    for body in _placed_bodies(raw):
        parts += [model.body_pos[body], model.body_quat[body]]
    return np.concatenate(parts)


def restore(raw: Any, state: np.ndarray) -> int:
    """Put a state of `capture` back; returns its step count. Raises SimEnvError for a wrong length."""
    model, data = raw.sim.model._model, raw.sim.data._data
    expected = capture(raw, 0).size
    state = np.asarray(state, np.float64)
    if state.shape != (expected,):
        raise SimEnvError(f"a state of this task has shape ({expected},), got {state.shape}")
    size = mujoco.mj_stateSize(model, _STATE)
    at = 1 + size
    for robot in raw.robots:
        controller = robot.part_controllers[ARM]
        robot.gripper[ARM].current_action = state[at : at + _FINGERS].copy()
        at += _FINGERS
        joints = len(controller.qpos_index)
        controller.initial_joint = state[at : at + joints].copy()
        at += joints
    for body in _placed_bodies(raw):
        model.body_pos[body] = state[at : at + 3]
        model.body_quat[body] = state[at + 3 : at + 7]
        at += 7
    mujoco.mj_setState(model, data, state[1 : 1 + size], _STATE)
    raw.done = False
    refresh(raw)
    return int(state[0])


def refresh(raw: Any) -> None:
    """Recompute poses, contacts and velocities of the present state; leaves the state and the warm start as they are.

    The controllers are told to read the simulation afresh: after a reset they hold what they read in the middle of it.
    """
    for robot in raw.robots:
        for part in robot.part_controllers.values():
            part.new_update = True
    model, data = raw.sim.model._model, raw.sim.data._data
    mujoco.mj_fwdPosition(model, data)
    mujoco.mj_fwdVelocity(model, data)


def _placed_bodies(raw: Any) -> list[int]:
    """Bodies whose pose reset draws and writes into the model."""
    door = getattr(raw, "door", None)
    return [] if door is None else [raw.sim.model.body_name2id(door.root_body)]
