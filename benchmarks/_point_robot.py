"""A point with two joints and a small policy that is really trained for it in a moment: what the measurements of the
nodes and their tests run, where the quality of the policy does not matter but everything else is as on a robot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from diffbot_msgs.msg import Command
from diffbot_ros.probe import Probe

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.methods.bundle import save_bundle
from diffbot.methods.protocol import LocalAccelerator
from diffbot.methods.registry import method_by_name

JOINTS = ("joint1", "joint2")
LIMITS = {"low": [-1.0, -1.0], "high": [1.0, 1.0], "velocity": [3.0, 3.0], "acceleration": [60.0, 60.0]}
LIMITS["jerk"] = [6000.0, 6000.0]


def point_contract(rate: float = 20.0, image: tuple[int, int] | None = None) -> Contract:
    """Two joints that follow absolute set-points, the goal that they are led to, and a camera of this size if any."""
    camera = {"camera_image": Field((*image, 3), dtype="uint8", kind="image")} if image else {}
    return Contract(
        {
            "position": Field((2,), unit="rad", names=JOINTS),
            "goal": Field((2,), unit="rad", names=JOINTS),
            **camera,
        },
        Action((2,), unit="rad", names=JOINTS, low=(-1.0,), high=(1.0,), meaning="absolute", space="joint"),
        rate=rate,
        task="point",
    )


def point_robot(folder: Path) -> Path:
    """A robot profile for the point, with limits on everything; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "point.yaml"
    profile = {
        "description": "a point with two joints",
        "joints": list(JOINTS),
        "base_frame": "world",
        "joint_limits": LIMITS,
        "workspace": {"low": [-1.0, -1.0, -1.0], "high": [1.0, 1.0, 1.0]},
        "outputs": {
            "forward": {"topic": "forward_position_controller/commands"},
            "joint_trajectory": {"topic": "joint_trajectory_controller/joint_trajectory"},
        },
        "default_output": "forward",
    }
    path.write_text(yaml.safe_dump(profile))
    return path


def point_episodes(store: EpisodeStore, episodes: int, steps: int, rng: np.random.Generator) -> None:
    """A point that is led to a goal by set-points that lie ahead of it."""
    with store.writer() as writer:
        for _ in range(episodes):
            position, goal = rng.uniform(-0.5, 0.5, (2, 2))
            reach = 1.6 / store.contract.rate
            rows: dict[str, list[np.ndarray]] = {"position": [], "goal": [], "action": []}
            for _ in range(steps):
                action = position + np.clip(goal - position, -reach, reach)
                for key, value in (("position", position), ("goal", goal), ("action", action)):
                    rows[key].append(np.asarray(value, np.float32))
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
    keys = store.contract.state_keys
    windows = Windows(
        store, WindowSpec(keys=keys, observation_horizon=config.observation_horizon, horizon=config.horizon)
    )
    method.begin_training(LocalAccelerator(), 0)
    for step, indices in zip(range(steps), windows.sampler(64, 0), strict=False):
        method.update(transforms.forward_batch(windows.gather(indices)), progress=step / steps)
    return save_bundle(
        folder, name="diffusion_policy", method=method, transforms=transforms, contract=store.contract
    )


def point_bundle(
    folder: Path,
    *,
    rate: float = 20.0,
    steps: int = 300,
    inference_steps: int = 5,
) -> Path:
    """A trained policy for the point; returns the bundle's folder."""
    store = EpisodeStore.create(folder / "point.zarr", point_contract(rate), {"source": "scripted point"})
    point_episodes(store, 20, 40, np.random.default_rng(0))
    store = EpisodeStore.open(folder / "point.zarr")
    return train_bundle(folder / "policy", store, steps=steps, inference_steps=inference_steps)


def task_bundle(
    folder: Path, task: str, *, episodes: int = 3, steps: int = 200, length: int = 60, **options: Any
) -> Path:
    """A policy trained on a few episodes of a simulated task's scripted expert. options: of the environment."""
    import sim_envs

    env: Any = sim_envs.make(task, **options)
    contract = Contract.from_dict(env.unwrapped.contract())
    store = EpisodeStore.create(folder / "task.zarr", contract, {"source": "tests"})
    with store.writer() as writer:
        for seed in range(episodes):
            expert = sim_envs.expert(task, seed=seed)
            observation, _ = env.reset(seed=seed)
            expert.reset(env)
            rows: dict[str, list[np.ndarray]] = {
                key: [] for key in (*contract.observations, "action", "reward")
            }
            for _ in range(length):
                action = np.asarray(expert.act(env, observation), np.float32)
                for key in contract.observations:
                    rows[key].append(observation[key])
                rows["action"].append(action)
                observation, reward, terminated, truncated, info = env.step(action)
                rows["reward"].append(np.asarray(reward, np.float32))
                if terminated or truncated:
                    break
            writer.append({key: np.stack(value) for key, value in rows.items()}, {"success": info["success"]})
    env.close()
    return train_bundle(folder / "policy", EpisodeStore.open(folder / "task.zarr"), steps=steps)


class PointArm:
    """The point as a robot on the wall clock: publishes at `rate` by absolute deadlines and follows what is commanded.

    edit(step, values, stamp) may change what is published (return it) or lose it (return None): faults are made there.
    """

    def __init__(self, probe: Probe, rate: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.probe, self.rate = probe, rate
        self.position, self.goal = rng.uniform(-0.5, 0.5, (2, 2))
        self.images = {k: probe.contract.observations[k].shape for k in probe.contract.image_keys}
        self.edit: (
            Callable[[int, dict[str, np.ndarray], float], tuple[dict[str, np.ndarray], float] | None] | None
        ) = None
        self.sent = 0
        self._target = self.position.copy()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arm", daemon=True)
        probe.on_command = self._follow

    def __enter__(self) -> PointArm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self.probe.on_command = None

    def _follow(self, command: Command) -> None:
        if command.reason != "no_chunk":
            self._target = np.array(command.values, np.float64)

    def _run(self) -> None:
        start, step = time.monotonic(), 0
        while not self._stopping.is_set():
            if step % 200 == 199:
                self.goal = -self.goal  # keeps the arm moving
            self.position = self.position + 0.5 * (self._target - self.position)
            values: dict[str, np.ndarray] = {
                "position": self.position.astype(np.float32),
                "goal": self.goal.astype(np.float32),
            }
            for key, shape in self.images.items():
                values[key] = np.full(shape, step % 251, np.uint8)
            stamp = self.probe.now()
            changed = self.edit(step, values, stamp) if self.edit is not None else (values, stamp)
            if changed is not None:
                self.probe.publish(*changed)
                self.sent += 1
            step += 1
            self._stopping.wait(max(0.0, start + step / self.rate - time.monotonic()))
