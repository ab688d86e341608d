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
        expert="sim_envs.behaviour.ant_expert:AntMazeExpert",
        horizon=steps,
        rate=20.0,
        success="the ant's torso is within 0.45 m of the goal",
        description=f"Walk a four-legged ant through the {name} maze to a goal",
        group="maze",
        options={"maze": published},
    )
    for name, published, _, steps in _MAZES
)

_LEARNED = ("random", "medium", "expert", *(f"stage-{stage:02d}" for stage in range(1, 13)))
_LOCOMOTION = tuple(
    TaskSpec(
        id=f"locomotion/{name}",
        make=f"{_HERE}.locomotion:Locomotion",
        expert="sim_envs.behaviour.expert:LearnedExpert",
        qualities=_LEARNED,
        horizon=1000,
        rate=rate,
        success="the return so far has reached the expert's reference score",
        description=description,
        group="locomotion",
        options={"body": body},
    )
    for name, body, rate, description in (
        ("hopper", "Hopper", 125.0, "Hop forward on one leg"),
        ("halfcheetah", "HalfCheetah", 20.0, "Run forward on two legs with a long back"),
        ("walker2d", "Walker2d", 125.0, "Walk forward on two legs"),
    )
)
_KITCHEN = tuple(
    TaskSpec(
        id=f"kitchen/{name}",
        make=f"{_HERE}.kitchen:Kitchen",
        expert=f"{_HERE}.kitchen_expert:KitchenExpert",
        horizon=280,
        rate=12.5,
        success="every sub-task is done",
        description="With a Franka arm: " + ", ".join(subtasks),
        group="manipulation",
        options={"subtasks": subtasks},
    )
    for name, subtasks in (
        ("complete", ("microwave", "kettle", "bottom burner", "light switch")),
        ("mixed", ("microwave", "kettle", "light switch", "slide cabinet")),
    )
)
_ADROIT = (
    TaskSpec(
        id="adroit/pen",
        make=f"{_HERE}.adroit:AdroitPen",
        expert=f"{_HERE}.adroit_expert:PenExpert",
        horizon=200,
        rate=100.0,
        success="the pen is within 7.5 cm of its place and the cosine to the target direction is above 0.95",
        description="Turn a pen with a 24-joint hand until it points along the target",
        group="manipulation",
    ),
)
_FETCH = tuple(
    TaskSpec(
        id=f"fetch/{name}",
        make=f"{_HERE}.fetch:Fetch",
        expert=f"{_HERE}.fetch_expert:FetchExpert",
        horizon=horizon,
        rate=25.0,
        success="the block is within 5 cm of the goal",
        description=description,
        group="manipulation",
        options={"published": published},
    )
    for name, published, horizon, description in (
        ("push", "FetchPush-v4", 50, "Push a block over the table to a goal"),
        ("pick-and-place", "FetchPickAndPlace-v4", 50, "Bring a block to a goal on or above the table"),
    )
)

TASKS = (*_POINT, *_ANT, *_LOCOMOTION, *_KITCHEN, *_ADROIT, *_FETCH)
