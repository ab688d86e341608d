"""How one task of the registry is measured: speed against raw physics, and demonstrations of its expert."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

import sim_envs
from diffbot.evaluation.bench import interleave

LONGEST_BLOCK = 2000  # control steps


def speed(task: str, seconds: float, rounds: int, seed: int) -> dict[str, float]:
    """Control steps/s of the environment with random actions, and the fraction of raw physics where it has a model.

    seconds: length of one block, which sets the number of control steps. `rounds` blocks of environment and of raw
    physics in turn, after one block of each to warm up. Time is processor time of the one thread.
    """
    env = sim_envs.make(task)
    rng = np.random.default_rng(seed)
    space: Any = env.action_space
    env.reset(seed=seed)

    def step(action: np.ndarray) -> float:
        start = time.process_time()
        _, _, terminated, truncated, _ = env.step(action)
        passed = time.process_time() - start
        if terminated or truncated:
            env.reset(seed=seed)
        return passed

    probe = sorted(step(rng.uniform(space.low, space.high).astype(np.float32)) for _ in range(8))[4]
    steps = int(np.clip(seconds / max(probe, 1e-6), 10, LONGEST_BLOCK))
    actions = rng.uniform(space.low, space.high, (steps, *space.shape)).astype(np.float32)
    spent: dict[str, list[float]] = {"env": [], "raw": []}
    physics = raw_physics(env, actions, seed)

    def raw() -> None:
        start = time.process_time()
        if physics:
            physics()
        spent["raw"].append(time.process_time() - start)

    interleave({"env": lambda: spent["env"].append(sum(map(step, actions))), "raw": raw}, rounds, warmup=1)
    env.close()
    median = float(np.median(spent["env"][1:]))
    result = {"steps_per_s": steps / median}
    if physics:
        result["raw_fraction"] = float(np.median(spent["raw"][1:])) / median
    return result


def raw_physics(env: Any, actions: np.ndarray, seed: int) -> Callable[[], None] | None:
    """mj_step of the environment's model from the start of its episode under the control signals it applies."""
    base = env.unwrapped
    env.reset(seed=seed)
    if base.physics() is None:
        return None
    model, data = base.physics()
    substeps = round(1.0 / (base.task.rate * model.opt.timestep))
    whole = mujoco.mjtState.mjSTATE_INTEGRATION
    start = np.empty(mujoco.mj_stateSize(model, whole))
    mujoco.mj_getState(model, data, start, whole)
    signals = []
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        signals.append((data.ctrl.copy(), data.mocap_pos.copy(), data.mocap_quat.copy()))
        if terminated or truncated:
            break
    while len(signals) < len(actions):
        signals += signals[: len(actions) - len(signals)]
    env.reset(seed=seed)
    own = mujoco.MjData(model)

    def stepping() -> None:
        mujoco.mj_setState(model, own, start, whole)
        for control, position, orientation in signals:
            own.ctrl[:], own.mocap_pos[:], own.mocap_quat[:] = control, position, orientation
            mujoco.mj_step(model, own, nstep=substeps)

    return stepping


def demonstrations(task: str, quality: str, seeds: range) -> dict[str, float]:
    """Success rate, return, control steps and seconds of demonstrations that stop at success or at the time limit.

    seconds: wall and processor time of every episode, from its reset on, failures included.
    """
    env = sim_envs.make(task)
    env.reset(seed=seeds.start)  # loading and compiling is not part of a demonstration
    successes, steps, total = 0, 0, 0.0
    wall, processor = time.perf_counter(), time.process_time()
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        expert = sim_envs.expert(task, seed=seed, quality=quality)
        expert.reset(env)
        done = False
        while not done:
            observation, reward, terminated, truncated, info = env.step(expert.act(env, observation))
            steps += 1
            total += float(reward)
            done = terminated or truncated or info["success"]
        successes += info["success"]
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    env.close()
    count = len(seeds)
    return {
        "success": successes / count,
        "return": total / count,
        "steps": steps / count,
        "seconds": wall / count,
        "cpu_seconds": processor / count,
    }
