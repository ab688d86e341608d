"""What scripted arm experts share: goals for a tool, targets that may move, damped inverse kinematics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

DOWN = np.diag([1.0, -1.0, -1.0])  # a tool whose z axis points down
Target = Callable[[], np.ndarray]


@dataclass
class Goal:
    """Where one tool should be heading.

    position [3] m and rotation [3, 3] in the world frame; grip in [-1, 1], positive closes; pace in (0, 1] scales the
    largest step; quiet in [0, 1] scales the noise (0 where precision decides).
    """

    position: np.ndarray
    rotation: np.ndarray
    grip: float
    pace: float = 1.0
    quiet: float = 1.0


Script = Iterator[Goal]


def at(point: np.ndarray) -> Target:
    """A target that stays at `point` [3]."""
    return lambda: point


def near(where: Target, offset: np.ndarray) -> Target:
    """A target at an offset [3] from something that may move."""
    return lambda: where() + offset


def limit_norm(vector: np.ndarray, largest: float) -> np.ndarray:
    """The vector, shortened to norm `largest` when it is longer."""
    norm = float(np.linalg.norm(vector))
    return vector if norm <= largest else vector * (largest / norm)


def yawed(yaw: float) -> np.ndarray:
    """Rotation [3, 3] of a tool that points down, turned by `yaw` rad about the vertical."""
    return Rotation.from_euler("z", yaw).as_matrix() @ DOWN


def yaw_of(rotation: np.ndarray) -> float:
    """Yaw (rad) of a tool that points down."""
    upright = rotation @ DOWN.T
    return float(np.arctan2(upright[1, 0], upright[0, 0]))


def nearest_yaw(yaw: float, present: np.ndarray, symmetry: float) -> float:
    """The yaw equal to `yaw` modulo `symmetry` rad that is nearest to the tool rotation `present` [3, 3]."""
    now = yaw_of(present)
    return float(now + (yaw - now + symmetry / 2) % symmetry - symmetry / 2)


def rotation_error(wanted: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Rotation vector [3] (rad, world frame) that turns `present` into `wanted`."""
    return Rotation.from_matrix(wanted @ present.T).as_rotvec()


def point_jacobian(
    model: mujoco.MjModel, data: mujoco.MjData, body: int, point: np.ndarray, dofs: np.ndarray
) -> np.ndarray:
    """Jacobian [6, n] of the linear and angular velocity (world frame) of a point [3] that moves with `body`, in `dofs` [n]."""
    linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    mujoco.mj_jac(model, data, linear, angular, np.asarray(point, np.float64), body)
    return np.vstack([linear, angular])[:, dofs]


def joint_velocities(
    jacobian: np.ndarray, twist: np.ndarray, damping: float, towards: np.ndarray | None = None
) -> np.ndarray:
    """Joint velocities [n] for a twist [6] by damped least squares, J^T (J J^T + damping^2 I)^-1 twist.

    Wampler 1986, "Manipulator inverse kinematic solutions based on vector formulations and damped least-squares
    methods", eq. 14; Nakamura and Hanafusa 1986. `towards` [n]: a joint velocity of which only the part that hardly
    moves the tool is added (Liegeois 1977, the null space), so that a redundant arm keeps its posture.
    """
    square = jacobian @ jacobian.T + damping**2 * np.eye(len(jacobian))
    velocities = jacobian.T @ np.linalg.solve(square, twist)
    if towards is not None:
        velocities = velocities + towards - jacobian.T @ np.linalg.solve(square, jacobian @ towards)
    return velocities


def bounded_joint_velocities(
    jacobian: np.ndarray,
    twist: np.ndarray,
    damping: float,
    low: np.ndarray,
    high: np.ndarray,
    towards: np.ndarray,
) -> np.ndarray:
    """`joint_velocities` within bounds low, high [n]: the joint that exceeds its bound most is held there and the others make up.

    Flacco, De Luca and Khatib 2012, "Motion control of redundant robots under joint constraints: saturation in the null
    space", without the scaling of the task.
    """
    free = np.ones(len(low), bool)
    held = np.zeros(len(low))
    for _ in range(len(low)):
        velocities = held.copy()
        rest = twist - jacobian[:, ~free] @ held[~free]
        velocities[free] = joint_velocities(jacobian[:, free], rest, damping, towards[free])
        excess = np.maximum(velocities - high, low - velocities)
        excess[~free] = -np.inf
        worst = int(excess.argmax())
        if excess[worst] <= 0.0:
            break
        held[worst] = np.clip(velocities[worst], low[worst], high[worst])
        free[worst] = False
    return np.clip(velocities, low, high)
