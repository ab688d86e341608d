"""The Push-T tasks."""

from sim_envs.spec import TaskSpec

_SUCCESS = "the T covers at least 95 % of the goal T's area"

TASKS = tuple(
    TaskSpec(
        id=f"pusht/{name}",
        make="sim_envs.pusht.env:PushT",
        expert="sim_envs.pusht.expert:PushTExpert",
        horizon=300,
        rate=10.0,
        success=_SUCCESS,
        description=description,
        group="pusht",
        options=options,
    )
    for name, description, options in (
        ("state", "Push a T-shaped block onto its outline; block pose and key points", {}),
        ("image", "Push a T-shaped block onto its outline; seen from above", {"cameras": ("overhead",)}),
    )
)
