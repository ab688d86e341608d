"""The tasks of dm_control."""

from sim_envs.spec import TaskSpec

_SUITE = {
    ("acrobot", "swingup"): 100.0,
    ("acrobot", "swingup_sparse"): 100.0,
    ("ball_in_cup", "catch"): 50.0,
    ("cartpole", "balance"): 100.0,
    ("cartpole", "balance_sparse"): 100.0,
    ("cartpole", "swingup"): 100.0,
    ("cartpole", "swingup_sparse"): 100.0,
    ("cheetah", "run"): 100.0,
    ("finger", "spin"): 50.0,
    ("finger", "turn_easy"): 50.0,
    ("finger", "turn_hard"): 50.0,
    ("fish", "upright"): 25.0,
    ("fish", "swim"): 25.0,
    ("hopper", "stand"): 50.0,
    ("hopper", "hop"): 50.0,
    ("humanoid", "stand"): 40.0,
    ("humanoid", "walk"): 40.0,
    ("humanoid", "run"): 40.0,
    ("manipulator", "bring_ball"): 100.0,
    ("pendulum", "swingup"): 50.0,
    ("point_mass", "easy"): 50.0,
    ("reacher", "easy"): 50.0,
    ("reacher", "hard"): 50.0,
    ("swimmer", "swimmer6"): 100.0 / 3,
    ("swimmer", "swimmer15"): 100.0 / 3,
    ("walker", "stand"): 40.0,
    ("walker", "walk"): 40.0,
    ("walker", "run"): 40.0,
}
_MANIPULATION = {
    "reach_site": "Bring the Jaco hand to a point",
    "reach_duplo": "Touch a brick",
    "lift_brick": "Lift a brick",
    "lift_large_box": "Lift a box with both sides of the hand",
    "place_brick": "Put a brick on a pedestal",
    "place_cradle": "Put a cradle on a pedestal",
    "stack_2_bricks": "Stack a brick on another",
}
_EXPERTS = {
    "reach_site": "ReachExpert",
    "reach_duplo": "ReachExpert",
    "lift_brick": "LiftExpert",
    "place_brick": "PlaceExpert",
    "place_cradle": "PlaceExpert",
    "stack_2_bricks": "StackExpert",
}
_SUCCESS = "the reward of the present step is at least 0.9 (rewards lie in [0, 1])"

TASKS = (
    *(
        TaskSpec(
            id=f"dm_control/{domain}-{task}",
            make="sim_envs.dm_control_tasks.env:Suite",
            horizon=1000,
            rate=rate,
            success=_SUCCESS,
            description=f"{domain.replace('_', ' ')}: {task.replace('_', ' ')}",
            group="dm_control",
            options={"domain": domain, "name": task},
        )
        for (domain, task), rate in _SUITE.items()
    ),
    *(
        TaskSpec(
            id=f"dm_control/manipulation-{name.replace('_', '-')}",
            make="sim_envs.dm_control_tasks.env:Manipulation",
            expert=f"sim_envs.dm_control_tasks.jaco_expert:{_EXPERTS[name]}" if name in _EXPERTS else "",
            horizon=250,
            rate=25.0,
            success=_SUCCESS,
            description=description,
            group="dm_control",
            options={"name": f"{name}_features"},
        )
        for name, description in _MANIPULATION.items()
    ),
)
