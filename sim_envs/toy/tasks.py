"""The toy tasks: one draw from each distribution, and bandits on the mixtures."""

from sim_envs.spec import TaskSpec

_SHAPES = (
    "four-gaussians",
    "eight-gaussians",
    "grid-gaussians",
    "two-moons",
    "rings",
    "swiss-roll",
    "pinwheel",
    "chequerboard",
)
_BANDITS = {"bandit": "four-gaussians", "bandit-25": "grid-gaussians"}


def _spec(name: str, shape: str, description: str, success: str, bandit: bool) -> TaskSpec:
    return TaskSpec(
        id=f"toy/{name}",
        make="sim_envs.toy.env:Toy",
        expert="sim_envs.toy.env:ToyExpert",
        horizon=1,
        rate=1.0,
        success=success,
        description=description,
        group="toy",
        options={"shape": shape, "bandit": bandit},
    )


TASKS = (
    *(
        _spec(
            shape,
            shape,
            f"Draw a point from the {shape} distribution",
            "the point is within 3 sigma of the support",
            False,
        )
        for shape in _SHAPES
    ),
    *(
        _spec(
            name,
            shape,
            f"One-step bandit on {shape}: find the best mode",
            "the point is within 3 sigma of the best mode",
            True,
        )
        for name, shape in _BANDITS.items()
    ),
)
