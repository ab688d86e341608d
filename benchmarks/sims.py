"""Steps/s of the simulated tasks against raw mj_step, and how often and how fast their experts succeed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

import sim_envs
from diffbot.evaluation.bench import BenchResult, interleave

SUMMARY = "simulated tasks: steps/s against raw mj_step, expert success, seconds for a demonstration"
DEFAULT_TASKS = (
    "pusht/state",
    "pointmaze/umaze",
    "pointmaze/medium",
    "pointmaze/large",
    "antmaze/umaze",
    "locomotion/hopper",
    "locomotion/halfcheetah",
    "locomotion/walker2d",
    "kitchen/complete",
    "adroit/pen",
    "fetch/push",
    "fetch/pick-and-place",
    "metaworld/mt10",
    "metaworld/pick-place",
    "dm_control/cartpole-swingup",
    "dm_control/walker-walk",
    "dm_control/manipulation-reach-site",
    "particles/spread",
    "particles/tag",
    "particles/world",
    "toy/bandit",
    "robosuite/lift",
    "robosuite/stack",
    "robosuite/can",
    "robosuite/square",
    "robosuite/door",
    "robosuite/two-arm-lift",
)


@dataclass(frozen=True)
class Config:
    """What is measured."""

    tasks: tuple[str, ...] = ()  # ids of `diffbot list tasks`; none: one or more of each family
    episodes: int = 10  # demonstrations of each expert; 0 leaves the experts out
    steps: int = 100  # control steps in each timed round; 0 leaves the speed out
    rounds: int = 5  # rounds of environment and raw physics, in turn
    quality: str = "expert"
    seed: int = 0  # of the first episode; the others follow


def run(config: Config) -> BenchResult:
    """Figures `<task>.steps_per_s`, `.raw_fraction`, `.expert_success`, `.seconds_per_demo` and `.demo_steps`."""
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    for task in config.tasks or DEFAULT_TASKS:
        measured: dict[str, float] = {}
        if config.steps:
            measured |= speed(task, config)
        if config.episodes and sim_envs.spec(task).expert:
            measured |= demonstrations(task, config)
        figures |= {f"{task}.{name}": value for name, value in measured.items()}
        rows.append({"task": task, **{name: round(value, 4) for name, value in measured.items()}})
    seeds = list(range(config.seed, config.seed + config.episodes))
    notes = (
        "steps_per_s: control steps with random actions for each second of processor time of the one thread, so that "
        "other work on the machine counts less; resets left out, no images. raw_fraction: control steps/s of "
        "the environment over those of mj_step alone, same model, substeps, start and control signals, in turn. "
        "expert_success: share of episodes in which success was reached. seconds_per_demo: of every episode, from its "
        "reset to success or the time limit, failures included."
    )
    return BenchResult(figures, rows, seeds, notes)


def speed(task: str, config: Config) -> dict[str, float]:
    """Control steps/s of the environment with random actions, and the fraction of raw physics where it has a model."""
    env = sim_envs.make(task)
    rng = np.random.default_rng(config.seed)
    space: Any = env.action_space
    env.reset(seed=config.seed)
    actions = rng.uniform(space.low, space.high, (config.steps, *space.shape)).astype(np.float32)

    spent: dict[str, list[float]] = {"env": [], "raw": []}

    def stepping() -> None:
        passed = 0.0
        for action in actions:
            start = time.process_time()
            _, _, terminated, truncated, _ = env.step(action)
            passed += time.process_time() - start
            if terminated or truncated:
                env.reset(seed=config.seed)
        spent["env"].append(passed)

    physics = raw_physics(env, actions)

    def raw() -> None:
        start = time.process_time()
        if physics:
            physics()
        spent["raw"].append(time.process_time() - start)

    interleave({"env": stepping, "raw": raw}, config.rounds, warmup=1)
    env.close()
    seconds = float(np.median(spent["env"][1:]))
    result = {"steps_per_s": config.steps / seconds}
    if physics:
        result["raw_fraction"] = float(np.median(spent["raw"][1:])) / seconds
    return result


def raw_physics(env: Any, actions: np.ndarray) -> Callable[[], None] | None:
    """mj_step of the environment's model from the start of its episode under the control signals it applies."""
    base = env.unwrapped
    if base.physics() is None:
        return None
    model, data = base.physics()
    substeps = round(1.0 / (base.task.rate * model.opt.timestep))
    whole = mujoco.mjtState.mjSTATE_INTEGRATION
    start = np.empty(mujoco.mj_stateSize(model, whole))
    mujoco.mj_getState(model, data, start, whole)
    signals = []
    for action in actions:
        _, _, terminated, _, _ = env.step(action)
        signals.append((data.ctrl.copy(), data.mocap_pos.copy(), data.mocap_quat.copy()))
        if terminated:
            break
    while len(signals) < len(actions):
        signals += signals[: len(actions) - len(signals)]
    env.reset(seed=0)
    own = mujoco.MjData(model)

    def stepping() -> None:
        mujoco.mj_setState(model, own, start, whole)
        for control, position, orientation in signals:
            own.ctrl[:], own.mocap_pos[:], own.mocap_quat[:] = control, position, orientation
            mujoco.mj_step(model, own, nstep=substeps)

    return stepping


def demonstrations(task: str, config: Config) -> dict[str, float]:
    """Success rate, wall seconds and control steps of demonstrations that stop at success or at the time limit."""
    env = sim_envs.make(task)
    expert = sim_envs.expert(task, seed=config.seed, quality=config.quality)
    env.reset(seed=config.seed + config.episodes)  # loading and compiling is not part of a demonstration
    successes, steps = 0, 0
    start = time.perf_counter()
    for episode in range(config.episodes):
        observation, info = env.reset(seed=config.seed + episode)
        expert.reset(env)
        done = False
        while not done:
            observation, _, terminated, truncated, info = env.step(expert.act(env, observation))
            steps += 1
            done = terminated or truncated or info["success"]
        successes += info["success"]
    seconds = time.perf_counter() - start
    env.close()
    n = config.episodes
    return {"expert_success": successes / n, "seconds_per_demo": seconds / n, "demo_steps": steps / n}
