"""PointMaze and AntMaze: maps, goals, routes, the expert."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from gymnasium_robotics.envs.maze import maps

import sim_envs
from sim_envs.gymnasium_tasks.maze import GOAL_RADIUS
from sim_envs.gymnasium_tasks.maze_expert import route


def steps_between(cells: set, start: tuple, goal: tuple) -> int:
    """Breadth-first search."""
    queue, seen = deque([(start, 0)]), {start}
    while queue:
        cell, count = queue.popleft()
        if cell == goal:
            return count
        for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            after = (cell[0] + step[0], cell[1] + step[1])
            if after in cells and after not in seen:
                seen.add(after)
                queue.append((after, count + 1))
    raise AssertionError("no way")


@pytest.mark.parametrize(
    ("task", "published"), [("umaze", "U_MAZE"), ("medium", "MEDIUM_MAZE"), ("large", "LARGE_MAZE")]
)
def test_cells_are_those_of_the_published_map(task: str, published: str) -> None:
    env = sim_envs.make(f"pointmaze/{task}").unwrapped
    env.reset(seed=0)
    free = {
        (i, j) for i, row in enumerate(getattr(maps, published)) for j, cell in enumerate(row) if cell != 1
    }
    assert set(env.free_cells) == free


def test_routes_are_shortest_for_equal_costs_and_connected_for_any() -> None:
    env = sim_envs.make("pointmaze/large").unwrapped
    env.reset(seed=0)
    cells, rng = env.free_cells, np.random.default_rng(0)
    names = list(cells)
    for _ in range(40):
        start, goal = (names[i] for i in rng.choice(len(names), 2, replace=False))
        shortest = route(cells, start, goal, dict.fromkeys(cells, 1.0))
        assert len(shortest) - 1 == steps_between(set(cells), start, goal)
        other = route(cells, start, goal, {cell: float(rng.exponential() + 0.01) for cell in cells})
        assert other[0] == start and other[-1] == goal
        hops = np.abs(np.diff(np.array(other), axis=0)).sum(1)
        assert (hops == 1).all() and set(other) <= set(cells)


def test_goal_gives_reward_and_success_inside_its_radius() -> None:
    env = sim_envs.make("pointmaze/umaze").unwrapped
    env.reset(seed=0)
    centre = env.free_cells[(1, 1)]
    for distance, expected in ((GOAL_RADIUS - 0.01, 1.0), (GOAL_RADIUS + 0.01, 0.0)):
        observation = env.place(start=centre, goal=np.add(centre, [distance, 0.0]))
        np.testing.assert_allclose(observation["goal"], np.add(centre, [distance, 0.0]), rtol=1e-6)
        _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
        assert (reward, info["success"], terminated) == (expected, bool(expected), False)
    with pytest.raises(sim_envs.SimEnvError, match="wall"):
        env.place(start=np.array([-2.4, 2.4]))


def test_episodic_and_new_goal_options() -> None:
    env = sim_envs.make("pointmaze/umaze", continuing=False).unwrapped
    env.reset(seed=0)
    env.place(goal=env.position)
    assert env.step(np.zeros(2, np.float32))[2] is True
    env = sim_envs.make("pointmaze/umaze", new_goals=True).unwrapped
    env.reset(seed=0)
    env.place(goal=env.position)
    goal = env.goal
    env.step(np.zeros(2, np.float32))
    assert np.linalg.norm(env.goal - goal) > GOAL_RADIUS


@pytest.mark.parametrize("task", ["pointmaze/umaze", "pointmaze/medium", "pointmaze/large"])
def test_expert_arrives_stays_and_varies(task: str) -> None:
    env, expert = sim_envs.make(task), sim_envs.expert(task, seed=2)
    successes, modes = 0, set()
    for seed in range(300, 320):
        observation, info = env.reset(seed=seed)
        expert.reset(env)
        modes.add(expert.mode)
        truncated = False
        while not truncated:
            observation, _, _, truncated, info = env.step(expert.act(env, observation))
        successes += info["success"]
    assert successes >= 19
    assert len(modes) >= 4


def test_random_routes_take_a_loop_either_way() -> None:
    env = sim_envs.make("pointmaze/large").unwrapped
    env.reset(seed=0)
    cells = env.free_cells
    start, goal = cells[(1, 1)], cells[(7, 10)]
    expert = sim_envs.expert("pointmaze/large", seed=0)
    ways = set()
    for _ in range(30):
        env.place(start=start, goal=goal)
        expert.reset(env)
        ways.add(tuple(env.inner.maze.cell_xy_to_rowcol(p).tobytes() for p in expert.points))
    assert len(ways) >= 4


def test_antmaze_ends_at_the_goal() -> None:
    env = sim_envs.make("antmaze/umaze").unwrapped
    env.reset(seed=0)
    assert not env.success()
    env.place(goal=env.position)
    _, reward, terminated, truncated, info = env.step(np.zeros(8, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
