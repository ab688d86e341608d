"""Demonstrators of the Jaco manipulation tasks: reach, lift, place and stack by resolved-rate control of the hand."""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from sim_envs.dm_control_tasks.env import Manipulation
from sim_envs.experts.arm import ArmExpert
from sim_envs.experts.script import (
    Goal,
    Script,
    Target,
    at,
    bounded_joint_velocities,
    limit_norm,
    near,
    nearest_yaw,
    point_jacobian,
    rotation_error,
    yaw_of,
    yawed,
)

OPEN, READY, CLOSE = -1.0, -0.3, 1.0
"""Grip: finger angles from wide open to beyond closed; READY leaves 9 cm between the tips."""
FINGERS = (0.15, 1.35)  # rad, range of the finger joints
FINGER_SPEED = 4.0  # rad/s; in the model their force and damping leave about 1.3
DAMPING = 0.03
TURN_WEIGHT = 0.2  # m/rad
DEPTH = 0.001  # m above the centre of a brick on the table: the finger tips reach 1 cm below the pinch site
FARTHEST_TURN = 2.3  # rad of the wrist; more would take too much of the episode
CLOSING_STEPS = 30
CLEARANCE = 0.18  # m between brick and pedestal below which the hand leans
LEAN = 0.45  # rad
ALIGNED = 60  # control steps that leaning straight away from the pedestal is worth
LONGEST = 150  # control steps
THUMB = 0.015  # m from the middle of the three fingers to the pinch site, along the hand's y axis


class JacoExpert(ArmExpert):
    """What the tasks share: the pinch site as the tool, and joint velocities as actions [9] (six joints, three fingers)."""

    version = "2"
    env: Manipulation
    gain, fastest, fastest_turn = 5.0, 0.25, 1.5

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        seen = self.observation
        position = seen["jaco_hand_pinch_site_pos"].astype(np.float64)
        return position, seen["jaco_hand_pinch_site_rmat"].astype(np.float64).reshape(3, 3)

    def command(self, goal: Goal) -> np.ndarray:
        model, data = self.env.physics()
        velocities = self.joint_speeds(model, data, self.pose()[0], self.twist(goal))
        low, high = FINGERS
        angle = low + (high - low) * (1.0 + goal.grip) / 2.0 if goal.grip < CLOSE else np.inf
        fingers = self.observation["jaco_hand_joints_pos"].astype(np.float64)
        speeds = np.clip(20.0 * (angle - fingers), -FINGER_SPEED, FINGER_SPEED)
        return np.concatenate([velocities, speeds])

    def draw(self) -> str:
        """Draw side of the way, hover height and which side of the hand the thumb takes."""
        model, _ = self.env.physics()
        self.hand = model.site("jaco_arm/jaco_hand/pinchsite").bodyid[0]
        joints = model.actuator_trnid[:6, 0]
        self.dofs = model.jnt_dofadr[joints].copy()
        self.limits = model.actuator_ctrlrange[:6, 1].copy()
        self.start, self.upright = self.pose()
        self.side = str(self.rng.choice(["straight", "left", "right"]))
        self.thumb = int(self.rng.integers(2))
        self.hover = float(self.rng.uniform(0.09, 0.15))
        self.aim = self.offset(0.002)
        return f"{self.side},thumb {('near', 'far')[self.thumb]}"

    def joint_speeds(
        self, model: mujoco.MjModel, data: mujoco.MjData, point: np.ndarray, twist: np.ndarray
    ) -> np.ndarray:
        """Speeds [6] of the arm's joints, within their bounds, that move the tool at `point` [3] with `twist` [6].

        Near the wrist's singularity, where two joints turn against each other as fast as they can, place counts more
        than direction.
        """
        weights = np.repeat([1.0, TURN_WEIGHT], 3)
        jacobian = weights[:, None] * point_jacobian(model, data, self.hand, point, self.dofs)
        return bounded_joint_velocities(
            jacobian, weights * twist, DAMPING, -self.limits, self.limits, np.zeros(len(self.limits))
        )

    def steps_to(self, rotation: np.ndarray, *positions: np.ndarray) -> int:
        """Control steps in which the arm, were nothing in its way, brings the tool to one position [3] after the other.

        LONGEST where it takes longer. Near the wrist's singularity a short way may take it long.
        """
        model, data = self.env.physics()
        copy = mujoco.MjData(model)
        copy.qpos[:] = data.qpos
        site = model.site("jaco_arm/jaco_hand/pinchsite").id
        speeds = np.zeros(model.nv)
        way = list(positions)
        for step in range(LONGEST):
            mujoco.mj_kinematics(model, copy)
            mujoco.mj_comPos(model, copy)
            here = copy.site_xpos[site]
            move = way[0] - here
            turn = rotation_error(rotation, copy.site_xmat[site].reshape(3, 3))
            if np.linalg.norm(move) < 0.01 and np.linalg.norm(turn) < 0.2:
                way.pop(0)
                if not way:
                    return step
            twist = np.concatenate(
                [limit_norm(self.gain * move, self.fastest), limit_norm(self.gain * turn, self.fastest_turn)]
            )
            speeds[self.dofs] = self.joint_speeds(model, copy, here, twist)
            mujoco.mj_integratePos(model, copy.qpos, speeds, self.env.substeps * model.opt.timestep)
        return LONGEST

    # Words of the scripts ------------------------------------------------------------------------------------------

    def seen(self, name: str) -> np.ndarray:
        """A position [3] of the observation."""
        return self.observation[f"{name}_position"].astype(np.float64)

    def yaw(self, name: str) -> float:
        """Yaw (rad) of an observed body."""
        w, x, y, z = self.observation[f"{name}_orientation"].astype(np.float64)
        return float(Rotation.from_quat([x, y, z, w]).as_euler("ZYX")[0])

    def rotation_for(self, name: str) -> np.ndarray:
        """A hand that points down and closes across the brick's short side, thumb on the drawn side.

        Beside a pillar it takes the side of the brick that lets it lean away from the pillar.
        """
        present = self.pose()[1]
        pillar = self.pillar()
        away = self.seen(name) - pillar if pillar is not None else np.full(3, np.inf)
        distance = float(np.linalg.norm(away[:2]))
        if distance < CLEARANCE:
            yaws = [nearest_yaw(self.yaw(name) + k * np.pi / 2, present, 2 * np.pi) for k in range(4)]
            self.lean = LEAN * min(1.0, (CLEARANCE - distance) / 0.07)
            best, soonest = np.eye(3), np.inf
            for upright in map(yawed, yaws):
                # The hand leans about its closing axis, so that the fingers stay level.
                along = float(upright[:2, 1] @ away[:2]) / distance
                rotation = upright @ Rotation.from_euler("x", np.sign(along) * self.lean).as_matrix()
                brick = self.seen(name)
                steps = self.steps_to(rotation, brick - self.hover * rotation[:, 2], brick)
                if steps - ALIGNED * abs(along) < soonest:
                    best, soonest = rotation, steps - ALIGNED * abs(along)
            return best
        self.lean = 0.0
        yaw = nearest_yaw(self.yaw(name), present, np.pi)
        other = yaw - np.copysign(np.pi, yaw - yaw_of(present))
        far = self.thumb and abs(other - yaw_of(present)) < FARTHEST_TURN
        return yawed(other if far else yaw)

    def pillar(self) -> np.ndarray | None:
        """Position [3] of something tall that the hand must not touch."""
        return None

    def detour(self, goal: np.ndarray, rotation: np.ndarray, grip: float) -> Script:
        """Pass a point to one side of the straight way to `goal` [3]."""
        if self.side == "straight":
            return
        here, _ = self.pose()
        way = goal - here
        sideways = np.cross([0.0, 0.0, 1.0], way)
        length = float(np.linalg.norm(sideways))
        across = sideways / length if length > 0.02 else np.array([1.0, 0.0, 0.0])
        shift = 0.08 * across * (1.0 if self.side == "left" else -1.0)
        middle = here + 0.5 * way + shift
        middle[2] = max(middle[2], 0.08)
        yield from self.go(at(middle), rotation, grip, within=0.03, turn_within=9.0, limit=40)

    def pick(self, name: str) -> Script:
        """Grasp the brick `name` from above; leaves the hand closed around it."""
        while True:
            rotation = self.rotation_for(name)
            aim = self.aim + (self.offset(0.02) if self.mistake else 0.0)
            centred = aim + THUMB * rotation[:, 1]
            above = near(lambda: self.seen(name), centred - self.hover * rotation[:, 2])
            yield from self.detour(above(), rotation, READY)
            yield from self.go(above, rotation, READY, within=0.015)
            depth = DEPTH + 0.02 * np.sin(self.lean)
            grasp = near(lambda: self.seen(name), centred + np.array([0.0, 0.0, depth]))
            yield from self.go(grasp, rotation, READY, within=0.0025, quiet=0.1, pace=0.8, limit=40)
            yield from self.close()
            here, _ = self.pose()
            up = at(here + np.array([0.0, 0.0, 0.05]))
            yield from self.go(up, rotation, CLOSE, within=0.01, quiet=0.5, limit=30)
            if np.linalg.norm(self.seen(name) - self.pose()[0]) < 0.04 or self.seen(name)[2] > 0.04:
                return
            self.mistake, self.aim = False, self.offset(0.001)
            yield from self.hold(READY, 10)

    def close(self) -> Script:
        """Close the fingers until they rest on something."""
        for step, goal in enumerate(self.hold(CLOSE, CLOSING_STEPS)):
            if step > 5 and np.abs(self.observation["jaco_hand_joints_vel"]).max() < 0.1:
                return
            yield goal

    def bring(self, held: Target, goal: Target) -> Target:
        """The tool target that puts a held thing, now at `held()`, at `goal()`."""
        return lambda: self.pose()[0] + goal() - held()


class ReachExpert(JacoExpert):
    """Brings the pinch site to the target or to the brick."""

    def script(self) -> Script:
        name = "target" if self.task.id.endswith("site") else "duplo2x4"
        rotation = yawed(self.rng.uniform(-0.6, 0.6)) @ yawed(0.0).T @ self.upright
        if self.mistake:
            miss = np.array([*self.rng.uniform(-0.12, 0.12, 2), 0.08])
            yield from self.go(at(self.seen(name) + miss), rotation, OPEN, within=0.02, limit=60)
            yield from self.hold(OPEN, int(self.rng.integers(5, 20)))
        aim = self.offset(0.004)
        lift = np.array([0.0, 0.0, 0.02]) if name == "duplo2x4" else np.zeros(3)
        yield from self.detour(self.seen(name), rotation, OPEN)
        yield from self.go(
            near(lambda: self.seen(name), aim + lift), rotation, OPEN, within=0.005, limit=10**6
        )
        yield from self.stay(OPEN)


class LiftExpert(JacoExpert):
    """Grasps the brick and lifts it by 30 cm."""

    height = 0.33

    def script(self) -> Script:
        name = "duplo2x4"
        yield from self.pick(name)
        here, _ = self.pose()
        rotation = self.pose()[1]
        over = here * [1.0, 1.0, 0.0] + [0.0, 0.0, self.height + self.rng.uniform(0.01, 0.04)]
        yield from self.go(at(over), rotation, CLOSE, within=0.01, quiet=0.6)
        yield from self.stay(CLOSE)


class PlaceExpert(JacoExpert):
    """Puts the brick on the pedestal and takes the hand away."""

    def pillar(self) -> np.ndarray:
        return self.seen("pedestal")

    def script(self) -> Script:
        name, aim = "duplo2x4", self.offset(0.003)
        goal = near(lambda: self.seen("pedestal"), aim)
        yield from self.pick(name)
        here, present = self.pose()
        rotation = yawed(yaw_of(present))
        over = goal() + np.array([0.0, 0.0, self.hover])
        up = here.copy()
        up[2] = max(over[2], here[2])
        yield from self.go(at(up), rotation, CLOSE, within=0.02, quiet=0.6)
        yield from self.detour(over, rotation, CLOSE)
        yield from self.go(self.bring(lambda: self.seen(name), at(over)), rotation, CLOSE, within=0.01)
        down = self.bring(lambda: self.seen(name), near(goal, np.array([0.0, 0.0, 0.02])))
        yield from self.go(down, rotation, CLOSE, within=0.008, pace=0.5, quiet=0.4, limit=40)
        yield from self.hold(OPEN, 15)
        here, _ = self.pose()
        yield from self.go(at(here + np.array([0.0, 0.0, 0.25])), rotation, OPEN, within=0.02, pace=0.7)
        yield from self.stay(OPEN)


class StackExpert(JacoExpert):
    """Clicks the second brick onto the first: aligns place and yaw by feedback on both, then presses."""

    top, base = "duplo2x4_2", "duplo2x4"

    def script(self) -> Script:
        yield from self.pick(self.top)
        here, _ = self.pose()
        yield from self.go(
            at(here + np.array([0.0, 0.0, 0.04])), self.pose()[1], CLOSE, within=0.02, quiet=0.6
        )
        yield from self.detour(self.seen(self.base) + np.array([0.0, 0.0, 0.1]), self.pose()[1], CLOSE)
        for height, within, limit in ((0.06, 0.01, 60), (0.026, 0.0015, 60)):
            yield from self.align(height, within, limit)
        for _ in range(40):
            yield self.aligned(-0.02, quiet=0.0)
        yield from self.hold(READY, 12)
        while True:
            yield from self.tamp()

    def tamp(self) -> Script:
        """Press the brick down with the closed fingers: what was let go half-way clicks in."""
        _, rotation = self.pose()
        top = near(lambda: self.seen(self.top), THUMB * rotation[:, 1])
        for height, grip, steps in ((0.07, READY, 10), (0.07, CLOSE, 12), (-0.01, CLOSE, 18)):
            for _ in range(steps):
                yield Goal(top() + np.array([0.0, 0.0, height]), rotation, grip, quiet=0.0)

    def aligned(self, height: float, quiet: float) -> Goal:
        """The goal that puts the held brick `height` m over the other one, with studs and holes in line."""
        position, rotation = self.pose()
        turn = (self.yaw(self.base) - self.yaw(self.top) + np.pi / 2) % np.pi - np.pi / 2
        target = position + self.seen(self.base) + [0.0, 0.0, height] - self.seen(self.top)
        return Goal(
            target, Rotation.from_euler("z", turn).as_matrix() @ rotation, CLOSE, pace=0.6, quiet=quiet
        )

    def align(self, height: float, within: float, limit: int) -> Script:
        """Head for `aligned` until the brick is `within` m of it."""
        for _ in range(limit):
            goal = self.aligned(height, quiet=0.2)
            if np.linalg.norm(goal.position - self.pose()[0]) < within:
                return
            yield goal
