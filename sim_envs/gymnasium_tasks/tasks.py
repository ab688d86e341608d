"""The tasks of gymnasium and gymnasium-robotics."""

from sim_envs.spec import TaskSpec

_HERE = "sim_envs.gymnasium_tasks"

_MAZES = (("umaze", "UMaze", 300, 700), ("medium", "Medium", 600, 1000), ("large", "Large", 800, 1000))

_POINT = tuple(
    TaskSpec(
        id=f"pointmaze/{name}",
        make=f"{_HERE}.maze:PointMaze",
        expert=f"{_HERE}.maze_expert:PointMazeExpert",
        horizon=steps,
        rate=100.0,
        success="the ball is within 0.45 m of the goal",
        description=f"Drive a ball through the {name} maze to a goal",
        group="maze",
        options={"maze": published},
    )
    for name, published, steps, _ in _MAZES
)
_ANT = tuple(
    TaskSpec(
        id=f"antmaze/{name}",
        make=f"{_HERE}.maze:AntMaze",
        horizon=steps,
        rate=20.0,
        success="the ant's torso is within 0.45 m of the goal",
        description=f"Walk a four-legged ant through the {name} maze to a goal",
        group="maze",
        options={"maze": published},
    )
    for name, published, _, steps in _MAZES
)

TASKS = (*_POINT, *_ANT)
