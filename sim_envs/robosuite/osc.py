"""Operational-space control between two actions, without robosuite's per-substep overhead.

An action sets goals once; the 24 physics steps that follow only follow them. robosuite re-resolves names, limits and
gripper commands in each, which takes most of its time. This does the same arithmetic, in the same order and with the same compiled
kernels, on indices resolved at reset: the torques are equal to the last bit (Khatib 1987, as in robosuite's `osc.py`).
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from sim_envs.robosuite.observations import ARM


class OperationalSpaceFollower:
    """Torques of one arm towards the goal that its robosuite controller holds. Build a new one after each reset."""

    def __init__(self, raw: Any, robot: Any):
        from robosuite.utils import control_utils

        self.kernels = control_utils
        self.model, self.data = raw.sim.model._model, raw.sim.data._data
        self.controller = robot.part_controllers[ARM]
        name = f"{self.controller.naming_prefix}{self.controller.part_name}_center"
        self.site = raw.sim.model.site_name2id(self.controller.ref_name)
        base = raw.sim.model.site_name2id(name)
        self.origin = np.array(self.data.site_xpos[base])
        self.frame = np.array(self.data.site_xmat[base]).reshape(3, 3)
        self.dofs = np.array(self.controller.qvel_index)
        self.joints = np.array(self.controller.qpos_index)
        self.actuators = np.array(robot._ref_actuators_indexes_dict[ARM])
        self.limits = self.model.actuator_ctrlrange[self.actuators]
        self.jacobian = np.zeros((6, self.model.nv))
        self.inertia = np.zeros((self.model.nv, self.model.nv))

    def apply(self) -> None:
        """Write the arm's controls for the present state, between `mj_step1` and `mj_step2`."""
        c, data, dofs = self.controller, self.data, self.dofs
        position = np.array(data.site_xpos[self.site])
        rotation = np.array(data.site_xmat[self.site]).reshape(3, 3)
        mujoco.mj_jacSite(self.model, data, self.jacobian[:3], self.jacobian[3:], self.site)
        velocity, spin = np.dot(self.jacobian[:3], data.qvel), np.dot(self.jacobian[3:], data.qvel)
        mujoco.mj_fullM(self.model, self.inertia, data.qM)
        inertia = self.inertia[dofs, :][:, dofs]
        J = np.ascontiguousarray(self.jacobian[:, dofs])

        goal_position, goal_rotation = c.goal_pos, c.goal_ori
        if c.input_ref_frame == "base":
            goal_position = self.origin + np.dot(self.frame, goal_position)
            goal_rotation = np.dot(self.frame, goal_rotation)
        turn = self.kernels.orientation_error(goal_rotation, rotation)
        force = np.multiply(goal_position - position, c.kp[0:3]) + np.multiply(-velocity, c.kd[0:3])
        torque = np.multiply(turn, c.kp[3:6]) + np.multiply(-spin, c.kd[3:6])
        _, lambda_position, lambda_rotation, nullspace = self.kernels.opspace_matrices(
            inertia, J, J[:3], J[3:]
        )
        wrench = np.concatenate([np.dot(lambda_position, force), np.dot(lambda_rotation, torque)])
        torques = np.dot(J.T, wrench) + data.qfrc_bias[dofs]
        torques += self.kernels.nullspace_torques(
            inertia, nullspace, c.initial_joint, data.qpos[self.joints], data.qvel[dofs]
        )
        data.ctrl[self.actuators] = np.clip(torques, self.limits[:, 0], self.limits[:, 1])
