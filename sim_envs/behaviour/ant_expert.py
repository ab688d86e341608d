"""The AntMaze demonstrator: a route through the cells, walked with a learned gait."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_envs.behaviour.ant import features, quarter, torques
from sim_envs.behaviour.policy import learner
from sim_envs.env import Observation
from sim_envs.experts import quality_named
from sim_envs.gymnasium_tasks.maze import AntMaze
from sim_envs.gymnasium_tasks.maze_expert import Cell, route
from sim_envs.spec import TaskSpec

ARRIVED = 1.0  # m from the centre of a cell, from where the next one is headed for
STUCK = (60, 0.4)  # steps, and the distance in m below which the ant steps aside
ASIDE = 25  # steps


class AntMazeExpert:
    """Heads for the centre of one cell after the other. `mode` names the route: "shortest", or "random" (random costs of
    cells, so that loops of the maze are taken either way). Lower qualities disturb the torques and start with a detour.
    """

    def __init__(self, seed: int, quality: str, task: TaskSpec):
        self.rng = np.random.default_rng(seed)
        self.quality = quality_named(quality)
        self.policy = learner("antmaze").policy("expert")
        self.mode = ""

    @property
    def version(self) -> str:
        """Changes with the weights of the gait."""
        return f"1-{self.policy.version}"

    def reset(self, env: Any) -> None:
        """Draw the route."""
        base: AntMaze = env.unwrapped
        wander = bool(self.rng.random() < 0.5)
        cells = base.free_cells
        spread = 1.5 if wander else 0.0
        cost = {cell: float(np.exp(spread * self.rng.standard_normal())) for cell in cells}
        start, goal = self._cell(base, base.position), self._cell(base, base.goal)
        way = route(cells, start, goal, cost)
        if self.rng.random() < self.quality.mistakes:
            wrong = list(cells)[int(self.rng.integers(len(cells)))]
            way = route(cells, start, wrong, cost)[:-1] + route(cells, wrong, goal, cost)
        self.points = [*(cells[cell] for cell in way[1:-1]), base.goal]
        self.mode = f"{'random' if wander else 'shortest'} route"
        self.trail: list[np.ndarray] = []
        self.aside, self.away = 0, np.zeros(2)

    def act(self, env: Any, observation: Observation) -> np.ndarray:
        """Motor commands [8] in [-1, 1], float32."""
        base: AntMaze = env.unwrapped
        qpos, qvel = base.data.qpos, base.data.qvel
        while len(self.points) > 1 and np.linalg.norm(self.points[0] - qpos[:2]) < ARRIVED:
            self.points.pop(0)
        gap = self.points[0] - qpos[:2]
        direction = gap / max(float(np.linalg.norm(gap)), 1e-6)
        if self._stuck(qpos[:2].copy()):
            turn = self.rng.uniform(0.5, 1.5) * np.pi / 2 * self.rng.choice([-1, 1])
            c, s = np.cos(turn), np.sin(turn)
            self.aside, self.away = ASIDE, np.array([[c, -s], [s, c]]) @ direction
        if self.aside:
            self.aside -= 1
            direction = self.away
        turns = quarter(qpos, direction)
        action = self.policy(features(qpos, qvel, direction, turns))
        noise = 0.1 * (self.quality.noise - 1.0) * self.rng.standard_normal(8)
        return torques(np.clip(action + noise, -1.0, 1.0), turns).astype(np.float32)

    def _cell(self, base: AntMaze, point: np.ndarray) -> Cell:
        row, column = base.inner.maze.cell_xy_to_rowcol(point)
        return int(row), int(column)

    def _stuck(self, position: np.ndarray) -> bool:
        """Whether the ant has hardly moved for a while; forgets the past when it has."""
        steps, distance = STUCK
        self.trail = [*self.trail[-steps:], position]
        stuck = len(self.trail) > steps and float(np.linalg.norm(position - self.trail[0])) < distance
        if stuck:
            self.trail = []
        return stuck
