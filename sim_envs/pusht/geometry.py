"""The T: its two rectangles, its outline, and how much of the goal it covers.

A pose is (x, y, angle): the published origin of the T (middle of the bar's free edge) in m and rad. In the frame of
the T the bar spans x in [-60, 60] mm, y in [0, 30] mm and the stem x in [-15, 15] mm, y in [30, 120] mm.
"""

from __future__ import annotations

import numpy as np

RECTANGLES = np.array([[-0.06, 0.0, 0.06, 0.03], [-0.015, 0.03, 0.015, 0.12]])
"""(x_low, y_low, x_high, y_high) of bar and stem [m]."""

OUTLINE = np.array(
    [
        [-0.06, 0.0],
        [0.06, 0.0],
        [0.06, 0.03],
        [0.015, 0.03],
        [0.015, 0.12],
        [-0.015, 0.12],
        [-0.015, 0.03],
        [-0.06, 0.03],
    ]
)
"""Corners of the T, counter-clockwise [8, 2] in m: the key points of the observation."""

AREA = 0.0063  # m^2
CENTRE_OF_MASS = np.array([0.0, 0.04071428571428571])
GOAL_POSE = np.array([0.256, 0.256, np.pi / 4])


def rotation(angle: float | np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 2, 2] of angles [...] in rad."""
    matrix = np.empty((*np.shape(angle), 2, 2))
    matrix[..., 0, 0] = matrix[..., 1, 1] = np.cos(angle)
    matrix[..., 1, 0] = np.sin(angle)
    matrix[..., 0, 1] = -matrix[..., 1, 0]
    return matrix


def to_world(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [N, 2] of the T's frame in the world, for poses [..., 3]: [..., N, 2]."""
    return pose[..., None, :2] + points @ np.swapaxes(rotation(pose[..., 2]), -1, -2)


def to_block(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Inverse of `to_world` for one pose [3]."""
    return (points - pose[:2]) @ rotation(pose[2])


def pose_from_joints(qpos: np.ndarray) -> np.ndarray:
    """Poses [..., 3] from the joint positions [..., 3] of the block, whose joints act at the centre of mass."""
    origin = qpos[..., :2] - (rotation(qpos[..., 2]) @ CENTRE_OF_MASS[:, None])[..., 0]
    return np.concatenate([origin, qpos[..., 2:3]], -1)


def joints_from_pose(pose: np.ndarray) -> np.ndarray:
    """Inverse of `pose_from_joints`."""
    centre = pose[..., :2] + (rotation(pose[..., 2]) @ CENTRE_OF_MASS[:, None])[..., 0]
    return np.concatenate([centre, pose[..., 2:3]], -1)


def _corners(rectangle: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = rectangle
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _clipped_area(polygon: list[list[float]], rectangle: list[float]) -> float:
    """Area of a convex polygon inside an axis-aligned rectangle: Sutherland-Hodgman clipping, shoelace formula."""
    for axis, bound, sign in (
        (0, rectangle[0], 1),
        (1, rectangle[1], 1),
        (0, rectangle[2], -1),
        (1, rectangle[3], -1),
    ):
        clipped = []
        for i, end in enumerate(polygon):
            start = polygon[i - 1]
            before, after = sign * (start[axis] - bound), sign * (end[axis] - bound)
            if (before > 0) != (after > 0):
                f = before / (before - after)
                clipped.append([start[0] + f * (end[0] - start[0]), start[1] + f * (end[1] - start[1])])
            if after > 0:
                clipped.append(end)
        if not clipped:
            return 0.0
        polygon = clipped
    return 0.5 * abs(
        sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True))
    )


def coverage(pose: np.ndarray, goal: np.ndarray = GOAL_POSE) -> float:
    """Area of intersection of the T with the goal T, divided by the area of the goal, in [0, 1]. Exact.

    The metric of Push-T in Chi et al. 2023. Both Ts are two rectangles, so four convex intersections add up to it.
    """
    total = 0.0
    for rectangle in RECTANGLES:
        corners = to_block(goal, to_world(pose, _corners(rectangle))).tolist()
        for target in RECTANGLES.tolist():
            total += _clipped_area(corners, target)
    return min(total / AREA, 1.0)


def keypoint_distance(pose: np.ndarray, goal: np.ndarray = GOAL_POSE) -> np.ndarray:
    """Root mean square distance [...] in m between the corners of the Ts at poses [..., 3] and at the goal."""
    return np.sqrt(((to_world(pose, OUTLINE) - to_world(goal, OUTLINE)) ** 2).sum(-1).mean(-1))


def distance_to_block(pose: np.ndarray, point: np.ndarray) -> float:
    """Distance in m from a point [2] to the T at `pose`; 0 inside."""
    local = to_block(pose, point)
    gaps = np.maximum(np.maximum(RECTANGLES[:, :2] - local, local - RECTANGLES[:, 2:]), 0)
    return float(np.linalg.norm(gaps, axis=1).min())
