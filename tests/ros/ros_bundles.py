"""Small policies that are really trained, on data made in a moment, for the tests of the nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.methods.bundle import save_bundle
from diffbot.methods.protocol import LocalAccelerator
from diffbot.methods.registry import method_by_name

POINT = Contract(
    {"position": Field((2,), unit="m", names=("x", "y")), "goal": Field((2,), unit="m", names=("x", "y"))},
    Action((2,), unit="m", names=("x", "y"), low=(-1.0,), high=(1.0,), meaning="absolute", space="cartesian"),
    rate=20.0,
    task="point",
)


def point_episodes(store: EpisodeStore, episodes: int, steps: int, rng: np.random.Generator) -> None:
    """A point that is led to a goal by set-points that lie ahead of it."""
    with store.writer() as writer:
        for _ in range(episodes):
            position, goal = rng.uniform(-0.5, 0.5, (2, 2))
            rows: dict[str, list[np.ndarray]] = {"position": [], "goal": [], "action": []}
            for _ in range(steps):
                action = position + np.clip(goal - position, -0.08, 0.08)
                for key, value in (("position", position), ("goal", goal), ("action", action)):
                    rows[key].append(np.float32(value))
                position = position + 0.5 * (action - position)
            writer.append({key: np.stack(value) for key, value in rows.items()}, {"success": True})


def train_bundle(
    folder: Path, store: EpisodeStore, *, steps: int, threads: int = 1, inference_steps: int = 5
) -> Path:
    """Train a small diffusion policy for `steps` gradient steps and write its bundle; returns the bundle's folder."""
    torch.set_num_threads(threads)
    entry = method_by_name("diffusion_policy")
    config = entry.config(inference_steps=inference_steps, network_options={"width": 64, "depth": 2})
    transforms = entry.cls.transforms(config, store.contract)
    transforms.fit(store)
    method = entry.cls(config, transforms.transformed_contract(store.contract), 0)
    keys = tuple(store.contract.observations)
    windows = Windows(
        store, WindowSpec(keys=keys, observation_horizon=config.observation_horizon, horizon=config.horizon)
    )
    method.begin_training(LocalAccelerator(), 0)
    for step, indices in zip(range(steps), windows.sampler(64, 0), strict=False):
        method.update(transforms.forward_batch(windows.gather(indices)), progress=step / steps)
    return save_bundle(
        folder, name="diffusion_policy", method=method, transforms=transforms, contract=store.contract
    )


def point_bundle(folder: Path, *, steps: int = 300) -> Path:
    """A trained policy for the moving point."""
    store = EpisodeStore.create(folder / "point.zarr", POINT, {"source": "tests"})
    point_episodes(store, 20, 40, np.random.default_rng(0))
    return train_bundle(folder / "policy", EpisodeStore.open(folder / "point.zarr"), steps=steps)


def task_bundle(folder: Path, task: str, *, episodes: int = 3, steps: int = 200, length: int = 60) -> Path:
    """A policy trained on a few episodes of a simulated task's scripted expert."""
    import sim_envs

    env = sim_envs.make(task)
    contract = Contract.from_dict(env.unwrapped.contract())
    store = EpisodeStore.create(folder / "task.zarr", contract, {"source": "tests"})
    with store.writer() as writer:
        for seed in range(episodes):
            expert = sim_envs.expert(task, seed=seed)
            observation, _ = env.reset(seed=seed)
            expert.reset(env)
            rows: dict[str, list[np.ndarray]] = {key: [] for key in (*contract.observations, "action")}
            for _ in range(length):
                action = np.asarray(expert.act(env, observation), np.float32)
                for key in contract.observations:
                    rows[key].append(observation[key])
                rows["action"].append(action)
                observation, _, terminated, truncated, info = env.step(action)
                if terminated or truncated:
                    break
            writer.append({key: np.stack(value) for key, value in rows.items()}, {"success": info["success"]})
    env.close()
    return train_bundle(folder / "policy", EpisodeStore.open(folder / "task.zarr"), steps=steps)
