"""The PointMaze demonstrator: a route through the cells, followed by a PD controller."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from sim_envs.env import Observation
from sim_envs.experts import Noise, quality_named
from sim_envs.gymnasium_tasks.maze import PointMaze
from sim_envs.spec import TaskSpec

Cell = tuple[int, int]


def route(cells: dict[Cell, np.ndarray], start: Cell, goal: Cell, cost: dict[Cell, float]) -> list[Cell]:
    """Cheapest way from start to goal over neighbouring free cells (Dijkstra); `cost` is paid on entering a cell."""
    best: dict[Cell, float] = {start: 0.0}
    previous: dict[Cell, Cell] = {}
    queue = [(0.0, start)]
    while queue:
        total, cell = heapq.heappop(queue)
        if cell == goal:
            break
        for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            after = (cell[0] + step[0], cell[1] + step[1])
            if after in cells and total + cost[after] < best.get(after, np.inf):
                best[after] = total + cost[after]
                previous[after] = cell
                heapq.heappush(queue, (best[after], after))
    way = [goal]
    while way[-1] != start:
        way.append(previous[way[-1]])
    return way[::-1]


class PointMazeExpert:
    """Follows a route with a set-point that runs ahead. `mode` names the route, the line and the pace.

    Routes: "shortest", or "random" (costs of cells drawn at random, so that loops of the maze are taken either way).
    Lines: through the centres of the cells, or to the left or right of them.
    """

    version = "1"
    gain, damping = 2.2, 0.55  # action for each m and each m/s

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        self.mode = ""

    def reset(self, env: Any) -> None:
        """Draw route, line and pace."""
        self.random_route = bool(self.rng.random() < 0.5)
        self.line = str(self.rng.choice(["centre", "left", "right"]))
        self.pace = self.quality.speed * float(self.rng.uniform(1.8, 3.0))
        self.mode = f"{'random' if self.random_route else 'shortest'} route,{self.line} line"
        self.noise = Noise(self.rng, np.full(2, 0.06 * self.quality.noise))
        self.lost = bool(self.rng.random() < self.quality.mistakes)
        self._plan(env.unwrapped)

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """Force [2] in [-1, 1], float32."""
        base: PointMaze = env.unwrapped
        if not np.array_equal(base.goal, self.goal):
            self._plan(base)
        position, velocity = base.data.qpos[:2], base.data.qvel[:2]
        self._run_ahead(position, base.model.opt.timestep)
        force = self.gain * (self.carrot - position) - self.damping * (velocity - self.carrot_velocity)
        return np.clip(force + self.noise.step(), -1.0, 1.0).astype(np.float32)

    def _plan(self, base: PointMaze) -> None:
        self.goal = base.goal
        cells = base.free_cells
        start, goal = (self._cell(base, point) for point in (base.position, self.goal))
        spread = 1.5 if self.random_route else 0.0
        cost = {cell: float(np.exp(spread * self.rng.standard_normal())) for cell in cells}
        way = route(cells, start, goal, cost)
        if self.lost:
            self.lost = False
            wrong = list(cells)[int(self.rng.integers(len(cells)))]
            way = route(cells, start, wrong, cost)[:-1] + route(cells, wrong, goal, cost)
        points = [base.position, *self._beside([cells[cell] for cell in way])]
        self.points = [*(points[:-1] if len(points) > 2 else points), self.goal]
        self.carrot, self.carrot_velocity = base.position, np.zeros(2)

    def _cell(self, base: PointMaze, point: np.ndarray) -> Cell:
        row, column = base.inner.maze.cell_xy_to_rowcol(point)
        return int(row), int(column)

    def _beside(self, centres: list[np.ndarray]) -> list[np.ndarray]:
        """Way points moved 0.18 m to the side of travel, or the centres."""
        side = {"centre": 0.0, "left": 0.18, "right": -0.18}[self.line]
        moved = []
        for index, centre in enumerate(centres):
            ahead = centres[min(index + 1, len(centres) - 1)] - centres[max(index - 1, 0)]
            length = float(np.linalg.norm(ahead))
            normal = np.array([-ahead[1], ahead[0]]) / length if length else np.zeros(2)
            moved.append(centre + side * normal)
        return moved

    def _run_ahead(self, position: np.ndarray, dt: float) -> None:
        """Move the set-point along the way by one step, unless the ball is more than 0.5 m behind."""
        self.carrot_velocity = np.zeros(2)
        if np.linalg.norm(self.carrot - position) > 0.5:
            return
        left = self.pace * dt
        while self.points and left > 0:
            gap = self.points[0] - self.carrot
            distance = float(np.linalg.norm(gap))
            if distance <= left:
                self.carrot, left = self.points.pop(0), left - distance
                continue
            self.carrot_velocity = self.pace * gap / distance
            self.carrot = self.carrot + left * gap / distance
            left = 0.0
