"""The multi-agent particle tasks."""

from sim_envs.spec import TaskSpec

TASKS = tuple(
    TaskSpec(
        id=f"particles/{name}",
        make=f"sim_envs.particles.{module}",
        expert=f"sim_envs.particles.experts:{expert}",
        horizon=horizon,
        rate=10.0,
        success=success,
        description=description,
        group="multi-agent",
    )
    for name, module, expert, horizon, success, description in (
        (
            "spread",
            "spread:Spread",
            "SpreadExpert",
            25,
            "every landmark has an agent within 10 cm",
            "Three agents share out three landmarks",
        ),
        (
            "tag",
            "chase:Tag",
            "ChaseExpert",
            50,
            "the prey has been touched at least once",
            "Three slower agents catch a faster prey among obstacles",
        ),
        (
            "world",
            "chase:World",
            "ChaseExpert",
            50,
            "the prey has been touched at least once",
            "Three slower agents catch a faster prey that eats and hides in forests",
        ),
    )
)
