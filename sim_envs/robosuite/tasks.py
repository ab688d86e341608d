"""The robosuite tasks of the registry."""

from __future__ import annotations

from sim_envs.spec import TaskSpec

RATE = 20.0


def _task(name: str, scene: str, horizon: int, success: str, description: str) -> TaskSpec:
    return TaskSpec(
        id=f"robosuite/{name}",
        make="sim_envs.robosuite.env:RobosuiteEnv",
        horizon=horizon,
        rate=RATE,
        success=success,
        description=description,
        group="manipulation",
        options={"scene": scene},
        expert="sim_envs.robosuite.experts:make_expert",
    )


TASKS = (
    _task("lift", "Lift", 200, "cube more than 4 cm above the table", "a Panda lifts a cube"),
    _task(
        "stack",
        "Stack",
        300,
        "red cube lies on the green cube and is not held",
        "a Panda stacks a small cube on a larger one",
    ),
    _task(
        "can",
        "PickPlaceCan",
        400,
        "can in its bin, gripper more than 4 cm away and not touching it",
        "a Panda moves a can from one bin to its compartment in the other",
    ),
    _task(
        "square",
        "NutAssemblySquare",
        400,
        "square nut down on its peg, gripper not touching it",
        "a Panda fits a square nut over a square peg",
    ),
    _task(
        "door",
        "Door",
        300,
        "door hinge turned by more than 0.3 rad",
        "a Panda turns a latch and opens a door",
    ),
    _task(
        "two-arm-lift",
        "TwoArmLift",
        300,
        "pot bottom more than 10 cm above the table and tilted by less than 30 degrees",
        "two opposed Pandas lift a pot by its handles",
    ),
)
