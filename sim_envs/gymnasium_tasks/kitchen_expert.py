"""Demonstrator of the kitchen: one short script for each sub-task, in a drawn order, by damped inverse kinematics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.errors import unknown
from sim_envs.experts.arm import ArmExpert
from sim_envs.experts.script import DOWN, Goal, Script, Target, at, bounded_joint_velocities, point_jacobian
from sim_envs.gymnasium_tasks.kitchen import Kitchen

OPEN, CLOSE = -1.0, 1.0
TIP = 0.035  # m from the site of the end effector to between the finger tips
DAMPING = 0.04
TURN_WEIGHT = 0.25  # m/rad
SPEED = 1.5  # rad/s of any joint
DEPTH = 0.03  # m that the tips go beyond the axis of a handle
LEAD = 0.16  # s that the servo lags
HOMING = 5.0  # 1/s
FOLLOW = 0.7  # share of a door's angle that the hand turns with it
LIFT = 0.03  # m, towards the axis: the hand is soft and would slide off the end of the bar
PUSH = 0.15  # m ahead of the bar, which sets the force
BAR = 0.036  # m from the axis of a knob to where its bar is pushed
POSTURE = 0.4  # 1/s, pull of the null space towards the first posture
FORWARD = np.array(
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
)  # the hand points along +y, fingers along x
APPROACHES = {
    "microwave": ("level", "from above"),
    "kettle": ("palm left", "palm right"),
    "bottom burner": ("low", "steep"),
    "light switch": ("high", "low"),
    "slide cabinet": ("grasp", "push"),
}


def pointing(yaw: float, tilt: float = 0.0) -> np.ndarray:
    """Rotation [3, 3] of a hand that points along +y, turned by `yaw` rad about z and `tilt` rad downwards."""
    return Rotation.from_euler("z", yaw).as_matrix() @ Rotation.from_euler("x", -tilt).as_matrix() @ FORWARD


class KitchenExpert(ArmExpert):
    """Does the task's sub-tasks one after the other. `mode` is their order, each with its approach.

    It reads the simulator's true joints. Actions are joint velocities that the published environment turns into
    set-points one control step ahead; what gravity takes from that is added.
    """

    env: Kitchen
    gain, fastest, fastest_turn, shake = 5.0, 0.8, 3.0, 0.02

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        rotation = self.env.data.site_xmat[self.site].reshape(3, 3).copy()
        return self.env.data.site_xpos[self.site] + TIP * rotation[:, 2], rotation

    def command(self, goal: Goal) -> np.ndarray:
        model, data = self.env.physics()
        joints = data.qpos[:7]
        if self.returning:
            velocities = HOMING * (self.home - joints)
            velocities *= self.pace * SPEED / max(SPEED, float(np.abs(velocities).max()))
            return self.servo(velocities, goal.grip)
        jacobian = point_jacobian(model, data, self.hand, self.pose()[0], np.arange(7))
        posture = POSTURE * (self.posture - joints)
        low, high = (np.clip((bound - joints) / 0.3, -SPEED, SPEED) for bound in self.range.T)
        weights = np.repeat(
            [1.0, TURN_WEIGHT], 3
        )  # where a joint is at its limit, place counts more than direction
        velocities = bounded_joint_velocities(
            weights[:, None] * jacobian, weights * self.twist(goal), DAMPING, low, high, posture
        )
        return self.servo(velocities, goal.grip)

    def servo(self, velocities: np.ndarray, grip: float) -> np.ndarray:
        """The action [9] that moves the joints at `velocities` [7] rad/s.

        The set-point is the observed posture plus the action's velocity times the control step; the servo lags behind it.
        """
        ahead = velocities * LEAD + self.env.data.qfrc_bias[:7] / self.stiffness
        arm = ahead / self.env.inner.robot_env.dt / 2.0  # action 1 is 2 rad/s
        arm /= max(1.0, float(np.abs(arm).max()))
        return np.concatenate([arm, np.full(2, -grip)])

    def draw(self) -> str:
        """Draw the order of the sub-tasks and how each is approached."""
        model, data = self.env.physics()
        self.site = model.site("end_effector").id
        self.hand = int(model.site_bodyid[self.site])
        self.stiffness = model.actuator_gainprm[:7, 0].copy()
        self.home, self.returning = data.qpos[:7].copy(), False
        self.range = model.jnt_range[:7].copy()
        self.posture = np.array([-0.2, -0.6, 1.2, -2.2, 0.6, 1.4, 1.6])
        for name in self.env.subtasks:
            if name not in APPROACHES:
                raise unknown("kitchen sub-task with a script", name, APPROACHES)
        order = [str(name) for name in self.rng.permutation(self.env.subtasks)]
        self.plan = [(name, str(self.rng.choice(APPROACHES[name]))) for name in order]
        return ", ".join(f"{name} {approach}" for name, approach in self.plan)

    def script(self) -> Script:
        for name, approach in self.plan:
            for attempt in range(3):
                if self.done(name):  # perhaps by the arm in passing
                    break
                if attempt or name != self.plan[0][0]:
                    yield from self.go_home()
                yield from getattr(self, f"_{name.replace(' ', '_')}")(approach)
        yield from self.stay(OPEN)

    # Words of the scripts ------------------------------------------------------------------------------------------

    def go_home(self) -> Script:
        """Return the joints to the first posture, from which every handle is within reach."""
        self.returning = True
        for _ in range(25):
            if np.abs(self.home - self.env.data.qpos[:7]).max() < 0.7:
                break
            yield Goal(*self.pose(), OPEN)
        self.returning = False

    def place(self, site: str) -> np.ndarray:
        """Position [3] of a site of the scene."""
        return self.env.data.site(site).xpos.copy()

    def joint(self, name: str) -> float:
        """Position of a hinge or slide."""
        return float(self.env.data.joint(name).qpos[0])

    def done(self, name: str) -> bool:
        """Whether the environment has counted this sub-task."""
        return name in self.env.inner.episode_task_completions

    def pull(
        self,
        target: Target,
        rotation: Target,
        name: str,
        pace: float = 1.0,
        limit: int = 60,
        lost: Callable[[], bool] | None = None,
    ) -> Script:
        """Follow a moving target with closed fingers until the sub-task is done. The joints are heavily damped: be slow."""
        for _ in range(limit):
            if self.done(name) or (lost is not None and lost()):
                return
            yield Goal(target(), rotation(), CLOSE, pace, quiet=0.5)

    def leave(self, rotation: np.ndarray, by: np.ndarray) -> Script:
        """Open the fingers and withdraw by a displacement [3]."""
        yield from self.hold(OPEN, 3)
        yield from self.go(at(self.pose()[0] + by), rotation, OPEN, within=0.05, turn_within=9.0, limit=12)

    def door(self, name: str, site: str, hinge: str, joint: str, lead: float, approach: str) -> Script:
        """Grasp a handle and pull it around a hinge, `lead` rad ahead of the present angle."""
        rotation = pointing(0.3, 0.0 if approach == "level" else 0.45)
        out = -rotation[:, 2]
        aim = self.offset(0.003) + (self.offset(0.03) if self.mistake else 0.0)
        deep = -DEPTH * out
        target = self.place(site) + aim + deep
        yield from self.go(at(target + 0.1 * out), rotation, OPEN, within=0.025, limit=60)
        yield from self.go(at(target), rotation, OPEN, within=0.007, pace=0.5, quiet=0.2, limit=30)
        yield from self.hold(CLOSE, 5)
        pivot = self.env.data.body(hinge).xpos.copy()
        step = Rotation.from_euler("z", lead).as_matrix()

        def ahead() -> np.ndarray:
            return pivot + step @ (self.place(site) + deep - pivot)

        def turned() -> np.ndarray:
            return Rotation.from_euler("z", FOLLOW * self.joint(joint)).as_matrix() @ rotation

        def slipped() -> bool:
            return float(np.linalg.norm(self.place(site) + deep - self.pose()[0])) > 0.06

        yield from self.pull(ahead, turned, name, 0.4, 60, slipped)
        present = self.pose()[1]
        yield from self.leave(present, -0.1 * present[:, 2])

    # The sub-tasks -------------------------------------------------------------------------------------------------

    def _microwave(self, approach: str) -> Script:
        yield from self.door("microwave", "microhandle_site", "microdoorroot", "microwave", -0.25, approach)

    def _kettle(self, approach: str) -> Script:
        rotation = Rotation.from_euler("z", 0.0 if approach == "palm left" else np.pi).as_matrix() @ DOWN
        handle = self.place("kettle_site") + self.offset(0.004)
        yield from self.go(at(handle + np.array([0.0, 0.0, 0.10])), rotation, OPEN, within=0.01, limit=60)
        yield from self.go(at(handle), rotation, OPEN, within=0.015, pace=0.5, quiet=0.4, limit=30)
        yield from self.hold(CLOSE, 6)
        goal = at(np.array([-0.23, 0.62, handle[2] + 0.03]))
        yield from self.pull(goal, at(rotation), "kettle")
        yield from self.leave(rotation, np.array([0.0, 0.0, 0.12]))

    def knob(self, name: str, site: str, joint: str, approach: str) -> Script:
        """Push the free end of the bar of a knob sideways, along its circle."""
        rotation = pointing(0.35, 0.43 if approach == "low" else 0.47)
        centre = self.place(site) + self.offset(0.003)

        def beside(ahead: float) -> np.ndarray:
            angle = -self.joint(joint)
            along = -np.array([np.sin(angle), 0.0, np.cos(angle)])
            across = -np.array([np.cos(angle), 0.0, -np.sin(angle)])
            return centre + BAR * along + (ahead - 0.022) * across + np.array([0.0, 0.008, 0.0])

        def push() -> np.ndarray:
            target = beside(PUSH)
            target[2] += LIFT * np.cos(self.joint(joint))
            return target

        def slid() -> bool:
            return float(np.linalg.norm(beside(0.0) - self.pose()[0])) > 0.09

        start = beside(0.0) + np.array([0.02, 0.0, 0.0])
        yield from self.go(
            at(start - np.array([0.0, 0.08, 0.0])), rotation, CLOSE, within=0.035, turn_within=0.5, limit=60
        )
        yield from self.go(at(start), rotation, CLOSE, within=0.012, pace=0.5, quiet=0.4, limit=30)
        yield from self.pull(push, at(rotation), name, 0.9, 60, slid)
        yield from self.leave(rotation, np.array([0.0, -0.1, 0.0]))

    def _bottom_burner(self, approach: str) -> Script:
        yield from self.knob("bottom burner", "knob2_site", "knob_Joint_2", approach)

    def _light_switch(self, approach: str) -> Script:
        rotation = pointing(0.5, 0.5 if approach == "high" else 0.3)
        lever = self.place("light_site") + self.offset(0.003)
        start = lever + np.array([0.06, 0.0, 0.0])
        yield from self.go(
            at(start - np.array([0.0, 0.08, 0.0])), rotation, CLOSE, within=0.035, turn_within=0.5, limit=60
        )
        yield from self.go(at(start), rotation, CLOSE, within=0.012, pace=0.5, quiet=0.4, limit=30)
        yield from self.pull(at(lever + np.array([-0.12, 0.0, 0.0])), at(rotation), "light switch", 0.7, 40)
        yield from self.leave(rotation, np.array([0.0, -0.1, 0.0]))

    def _slide_cabinet(self, approach: str) -> Script:
        rotation = pointing(0.0)
        handle = self.place("slide_site") + self.offset(0.003) + np.array([0.0, 0.0, -0.08])
        grip, shift = (OPEN, 0.0) if approach == "grasp" else (CLOSE, -0.06)
        start = handle + np.array([shift, 0.0, 0.0])
        yield from self.go(at(start - np.array([0.0, 0.1, 0.0])), rotation, grip, within=0.025, limit=60)
        yield from self.go(at(start), rotation, grip, within=0.015, pace=0.5, quiet=0.4, limit=30)
        yield from self.hold(CLOSE, 5)
        yield from self.pull(at(handle + np.array([0.3, 0.0, 0.0])), at(rotation), "slide cabinet", 0.7, 50)
        yield from self.leave(rotation, np.array([0.0, -0.12, 0.0]))
