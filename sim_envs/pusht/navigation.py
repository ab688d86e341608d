"""Ways of the pusher around the T: shortest paths in a small visibility graph in the frame of the T."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import dijkstra

from sim_envs.pusht.env import PUSHER_RADIUS, SIZE
from sim_envs.pusht.geometry import RECTANGLES, to_block, to_world

CLEARANCE = 0.02
"""Gap in m that the pusher keeps from the T when it goes around. A policy strays from what it was shown by 6 mm; with a gap of
7 mm it touched the T on its way, moved it and was lost."""

_GROWN = RECTANGLES + (PUSHER_RADIUS + CLEARANCE) * np.array([-1, -1, 1, 1])
_NODES = np.array(
    [
        [x, y]
        for x0, y0, x1, y1 in _GROWN + 0.002 * np.array([-1, -1, 1, 1])
        for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    ]
)


def blocked(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Whether segments [..., 2] -> [..., 2] in the frame of the T cross the T grown by radius and clearance."""
    start, end = np.broadcast_arrays(start[..., None, :], end[..., None, :])
    direction = end - start
    safe = np.where(np.abs(direction) < 1e-12, 1e-12, direction)
    near, far = (_GROWN[:, :2] - start) / safe, (_GROWN[:, 2:] - start) / safe
    enter, leave = np.minimum(near, far).max(-1), np.maximum(near, far).min(-1)
    return ((enter < leave) & (leave > 1e-9) & (enter < 1 - 1e-9)).any(-1)


def escape(point: np.ndarray) -> np.ndarray:
    """The nearest free point to `point` [2], in the frame of the T."""
    ways = [point]
    for x0, y0, x1, y1 in _GROWN + 1e-4 * np.array([-1, -1, 1, 1]):
        x, y = np.clip(point[0], x0, x1), np.clip(point[1], y0, y1)
        ways += [np.array(p) for p in ((x0, y), (x1, y), (x, y0), (x, y1))]
    free = [way for way in ways if not inside(way)]
    return min(free, key=lambda way: float(np.linalg.norm(way - point)))


def inside(point: np.ndarray) -> bool:
    """Whether the pusher at `point` [2] (frame of the T) is nearer to the T than the clearance."""
    return bool(((point > _GROWN[:, :2]) & (point < _GROWN[:, 2:])).all(-1).any())


def path(pose: np.ndarray, start: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Shortest ways of the pusher from `start` [2] to each of `goals` [N, 2] around the T at `pose`, in m.

    Returns lengths [N] (inf where there is none) and the way points after the start, world frame.
    """
    first = escape(to_block(pose, start))
    nodes = np.concatenate([first[None], _NODES, to_block(pose, goals)])
    world = to_world(pose, nodes)
    usable = ((world >= PUSHER_RADIUS) & (world <= SIZE - PUSHER_RADIUS)).all(-1)
    usable &= ~np.array([inside(node) for node in nodes])
    usable[0] = True
    count = 1 + len(_NODES)
    lengths = np.full((len(nodes), len(nodes)), np.inf)
    distance = np.linalg.norm(nodes[:count, None] - nodes[None], axis=-1) + 1e-9
    open_way = ~blocked(nodes[:count, None], nodes[None]) & usable[:count, None] & usable[None]
    lengths[:count] = np.where(open_way, distance, np.inf)
    total, previous = dijkstra(lengths, indices=0, return_predecessors=True)
    ways = []
    for index in range(count, len(nodes)):
        way: list[np.ndarray] = []
        while index > 0:
            way.insert(0, world[index])
            index = previous[index]
        ways.append([world[0], *way])
    return total[count:], ways
