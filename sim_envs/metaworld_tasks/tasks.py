"""The MetaWorld tasks."""

from sim_envs.spec import TaskSpec

MT10 = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)
MT50 = tuple(
    sorted(
        {
            *MT10,
            *[
                "assembly",
                "basketball",
                "bin-picking",
                "box-close",
                "button-press-topdown-wall",
                "button-press",
                "button-press-wall",
            ],
            *[
                "coffee-button",
                "coffee-pull",
                "coffee-push",
                "dial-turn",
                "disassemble",
                "door-close",
                "door-lock",
                "door-unlock",
            ],
            *[
                "faucet-open",
                "faucet-close",
                "hammer",
                "hand-insert",
                "handle-press-side",
                "handle-press",
                "handle-pull-side",
            ],
            *[
                "handle-pull",
                "lever-pull",
                "peg-unplug-side",
                "pick-out-of-hole",
                "pick-place-wall",
                "plate-slide",
            ],
            *[
                "plate-slide-side",
                "plate-slide-back",
                "plate-slide-back-side",
                "push-back",
                "push-wall",
                "reach-wall",
            ],
            *["shelf-place", "soccer", "stick-pull", "stick-push", "sweep-into", "sweep"],
        }
    )
)

_SUCCESS = "MetaWorld's own success measure in the present state"


def _single(name: str) -> TaskSpec:
    return TaskSpec(
        id=f"metaworld/{name}",
        make="sim_envs.metaworld_tasks.env:MetaWorld",
        expert="sim_envs.metaworld_tasks.expert:MetaWorldExpert",
        horizon=500,
        rate=80.0,
        success=_SUCCESS,
        description=f"Sawyer arm: {name.replace('-', ' ')}",
        group="metaworld",
        options={"name": name},
    )


def _mixed(name: str, members: tuple[str, ...]) -> TaskSpec:
    return TaskSpec(
        id=f"metaworld/{name}",
        make="sim_envs.metaworld_tasks.multi:MultiTask",
        expert="sim_envs.metaworld_tasks.multi:MultiTaskExpert",
        horizon=500,
        rate=80.0,
        success=_SUCCESS,
        description=f"One of {len(members)} Sawyer tasks, drawn by the episode's seed",
        group="metaworld",
        options={"members": tuple(f"metaworld/{member}" for member in members)},
    )


TASKS = (*(_single(name) for name in MT50), _mixed("mt10", MT10), _mixed("mt50", MT50))
