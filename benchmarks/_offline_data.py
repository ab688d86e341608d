"""The mixed datasets of the rows of offline reinforcement, and the settings that the papers change from set to set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks._offline import Data

# Fewer candidates than published (50 and 64), because every one of them costs CPU time in each control step.
CANDIDATES = 16
# The papers train for 1e6 steps and more at 3e-4; some thousand steps need a higher rate.
FAST: dict[str, Any] = {"optimizer": {"learning_rate": 1e-3}, "critic_optimizer": {"learning_rate": 1e-3}}
# Sparse rewards and chunks of actions: with the papers' weights of the value term (1 and 2.5) the critics overestimate
# within some thousand steps. On the maze and seeds from 200000 on, one training each, TD3+BC reached 12 with 2.5 and 70
# with 0.25, Diffusion-QL 26 with 1 and 44 with 0.05 (percent of the time limit left at the goal); 0.01 follows that trend.
SPARSE: dict[str, dict[str, Any]] = {
    "td3_bc": {"alpha": 0.25},
    "diffusion_ql": {"candidates": CANDIDATES, "eta": 0.01},
}


def umaze() -> Data:
    """Controllers of four qualities in a U-shaped maze at 100 Hz; 0.1 s of actions at once, as 10 ms decide nothing."""
    return Data(
        "maze_umaze",
        "pointmaze/umaze",
        {"recipe": "pointmaze-umaze-mixed", "fraction": 0.04},
        steps=2500,
        episodes=20,
        chunk=10,
        offline=FAST,
        own={
            "iql": {"expectile": 0.9, "beta": 10.0},
            "idql": {"level": 0.9, "candidates": CANDIDATES, "selection": "greedy"},
            **SPARSE,
        },
    )


def hopper() -> Data:
    """What a learner did until it hopped halfway well."""
    return Data(
        "hopper_medium_replay",
        "locomotion/hopper",
        {"recipe": "hopper-medium-replay", "fraction": 0.125},
        steps=3000,
        episodes=6,
        offline={**FAST, "reward": "return_range"},
        own={
            "idql": {"candidates": CANDIDATES, "selection": "greedy"},
            "diffusion_ql": {"candidates": CANDIDATES},
        },
    )


def lift() -> Data:
    """Demonstrators of four qualities who lift a cube or do not; the reward is 1 at success."""
    mix = {"expert": 0.2, "good": 0.2, "okay": 0.3, "poor": 0.3}
    return Data(
        "lift_mixed",
        "robosuite/lift",
        {"task": "robosuite/lift", "mix": mix, "episodes": 80, "keep_failures": True},
        steps=2500,
        episodes=15,
        chunk=4,
        offline=FAST,
        own={"idql": {"candidates": CANDIDATES, "selection": "greedy"}, **SPARSE},
    )


def smoke_data() -> Data:
    """A few seconds in all."""
    tiny = {"candidates": 2}
    return replace(
        umaze(),
        collect={"recipe": "pointmaze-umaze-mixed", "fraction": 0.003},
        steps=20,
        episodes=1,
        own={"idql": tiny, "diffusion_ql": tiny},
        batch_size=64,
    )


def gpu_data() -> tuple[Data, ...]:
    """Published sizes: 1e6 steps of 256 on whole recipes, single actions, the papers' rates and candidates."""
    found = []
    for body in ("hopper", "walker2d", "halfcheetah"):
        for level in ("medium", "medium-replay", "medium-expert"):
            collect = {"recipe": f"{body}-{level}", "fraction": 1.0}
            reward = {"reward": "return_range"}
            name = f"{body}_{level.replace('-', '_')}"
            found.append(Data(name, f"locomotion/{body}", collect, 1_000_000, 10, offline=reward))
    for maze in ("umaze", "medium", "large"):
        collect = {"recipe": f"pointmaze-{maze}-mixed", "fraction": 1.0}
        own = {
            "iql": {"expectile": 0.9, "beta": 10.0},
            "idql": {"level": 0.9, "selection": "greedy"},
            "diffusion_ql": {"max_q_backup": True, "eta": 2.0},
        }
        found.append(Data(f"maze_{maze}", f"pointmaze/{maze}", collect, 1_000_000, 100, chunk=10, own=own))
    found.append(
        replace(lift(), collect={**lift().collect, "episodes": 300}, steps=300_000, episodes=50, offline={})
    )
    return tuple(found)
