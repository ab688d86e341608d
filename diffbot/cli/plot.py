"""`diffbot plot WHAT`: pictures of what a policy intends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from diffbot.cli.verb import Verb
from diffbot.errors import ConfigError, require

LIFT = 0.1  # m, height at which plans in the plane are drawn in the browser


@dataclass(frozen=True)
class PlanConfig:
    """Which policy plans, from where, and what is drawn."""

    policy: str = "???"  # bundle of a planner, or the run that holds it
    task: str = ""  # default: the task that the policy was trained on
    seed: int = 100000  # of the environment: where it starts and what the goal is
    policy_seed: int = 0  # of the plans' noise
    samples: int = 16  # plans
    key: str = ""  # planned key that is drawn; empty: the position
    # Weights of conditions of a decision_diffuser: +conditions.return=2.0
    conditions: dict[str, float] = field(default_factory=dict)
    camera: str = ""  # of the picture of the scene; empty: the task's first
    out: str = "plans.png"  # where the picture is written; empty: nowhere
    browser: bool = False  # show the plans in the 3-D scene in a browser
    host: str = "127.0.0.1"  # only this machine unless you say otherwise
    port: int = 8080  # of the page
    seconds: float = 0.0  # stop the page after this long; 0: until Ctrl-C


def run_plan(config: PlanConfig) -> int:
    """Sample plans from the start of one episode, write the picture and show the page."""
    from diffbot.cli.evaluate import find_bundle, task_environment
    from diffbot.evaluation.plans import position_key, sample_ways
    from diffbot.methods.bundle import load_bundle

    if config.samples < 1:
        raise ConfigError(f"samples must be at least 1, got {config.samples}")
    policy = load_bundle(find_bundle(config.policy))
    key = position_key(policy, config.key)
    options: dict[str, Any] = {}
    if config.conditions:
        if policy.name != "decision_diffuser":
            raise ConfigError(f"conditions belong to a decision_diffuser; this policy is a '{policy.name}'")
        options["conditions"] = dict(config.conditions)
    make_env, _ = task_environment(policy.contract, config.task)
    env: Any = make_env()
    try:
        observation, _ = env.reset(seed=config.seed)
        policy.contract.select(tuple(policy.method.keys)).check_observation(
            {name: observation[name] for name in policy.method.keys if name in observation}
        )
        ways = sample_ways(policy, observation, key, config.samples, config.policy_seed, **options)
        start, goal = observation[key], observation.get("goal")
        if goal is not None and np.shape(goal) != np.shape(start):
            goal = None
        if config.out:
            figure = _figure(env.unwrapped, config, ways, start, goal)
            Path(config.out).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(config.out, dpi=90)
            Console().print(f"{config.samples} plans of '{key}': {config.out}", highlight=False)
        if config.browser:
            _serve(env.unwrapped, config, ways)
    finally:
        env.close()
    return 0


def _figure(
    base: Any, config: PlanConfig, ways: np.ndarray, start: np.ndarray, goal: np.ndarray | None
) -> Any:
    from diffbot.evaluation.plans import maze_figure, projections_figure

    maze = getattr(getattr(base, "inner", None), "maze", None)
    if maze is not None:
        cells = [(i, j) for i, row in enumerate(maze.maze_map) for j, cell in enumerate(row) if cell == 1]
        walls = np.array([maze.cell_rowcol_to_xy(np.array(cell)) for cell in cells])
        return maze_figure(ways, walls, float(maze.maze_size_scaling), start, goal)
    if ways.shape[-1] == 2:
        raise ConfigError(
            f"task '{base.task.id}' has no maze to draw plans in the plane over: give browser=true out=''"
        )
    camera = config.camera or (base.available_cameras[0] if base.available_cameras else "")
    image = base.render_image(camera, 256, 256) if camera else None
    return projections_figure(ways, image, start, goal)


def _serve(base: Any, config: PlanConfig, ways: np.ndarray) -> None:
    """The scene with the plans in it, until Ctrl-C or `seconds` have passed."""
    from diffbot.evaluation.plans import colors, segments
    from sim_envs.scene import MujocoScene

    viser = require("viser", "view", "the browser page")
    physics = base.physics()
    if physics is None:
        raise ConfigError(f"task '{base.task.id}' has no MuJoCo scene to show in a browser")
    server = viser.ViserServer(host=config.host, port=config.port, verbose=False)
    try:
        MujocoScene(server, physics[0]).update(physics[1])
        lines = segments(ways, LIFT)
        each = np.repeat(colors(len(ways)), ways.shape[1] - 1, axis=0)
        server.scene.add_line_segments(
            "/plans",
            points=lines.astype(np.float32),
            colors=np.repeat(each[:, None], 2, axis=1),
        )
        middle = lines.reshape(-1, 3).mean(0)
        server.initial_camera.look_at = tuple(middle)
        server.initial_camera.position = tuple(
            middle + np.array([0.1, -0.5, 1.0]) * (4.0 if len(ways[0][0]) == 2 else 1.2)
        )
        Console().print(f"open http://{config.host}:{server.get_port()} (Ctrl-C ends)")
        started = time.monotonic()
        while not config.seconds or time.monotonic() - started < config.seconds:
            time.sleep(0.05)
    finally:
        server.stop()


VERBS = {
    "plan": Verb(
        "sampled plans of a planner over the maze or the scene",
        PlanConfig,
        run_plan,
        (
            "diffbot plot plan policy=runs/medium_diffuser samples=24 out=plans.png",
            "diffbot plot plan policy=runs/medium_decision_diffuser +conditions.return=2.0 browser=true",
        ),
    )
}
