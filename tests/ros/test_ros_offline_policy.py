"""Policies learned by offline reinforcement run in the policy node: the chunks are those of the policy in process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffbot_ros.convert import chunk_from_message
from diffbot_ros.graphs import NodeSpec
from diffbot_ros.probe import Probe
from diffbot_ros.processes import Processes

from benchmarks._point_robot import point_contract
from diffbot.control.load import load_runner
from diffbot.data.store import EpisodeStore
from diffbot.methods.registry import build_config
from diffbot.training.config import TrainingConfig
from diffbot.training.run import RunSpec, start

pytestmark = [pytest.mark.ros, pytest.mark.slow]
RATE = 20.0
OPTIONS = {
    "diffusion_ql": {"network_options": {"width": 32}, "critic": {"width": 32}, "candidates": 8},
    "idql": {"network_options": {"width": 16}, "critic": {"width": 32}, "candidates": 8},
}


def point_rewards(path: Path) -> None:
    """A point that is paid for being near its goal."""
    store = EpisodeStore.create(path, point_contract(RATE))
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for _ in range(8):
            goal = rng.uniform(-0.5, 0.5, 2)
            action = np.clip(goal + 0.3 * rng.normal(size=(30, 2)), -1, 1)
            position = np.concatenate([rng.uniform(-0.5, 0.5, (1, 2)), 0.5 * action[:-1]])
            arrays = {"position": position, "goal": np.tile(goal, (30, 1)), "action": action}
            arrays["reward"] = -np.linalg.norm(position - goal, axis=1)
            arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
            writer.append(arrays | {"terminated": np.zeros(30, bool)}, {"success": True})


@pytest.mark.parametrize("name", list(OPTIONS))
def test_chunks_of_the_node_are_those_in_process(
    ros_environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    point_rewards(tmp_path / "point.zarr")
    training = TrainingConfig(steps=30, batch_size=32, validation=0.0, tensorboard=False, threads=1)
    config = build_config(name, OPTIONS[name])
    policy = start(RunSpec(name, config, tmp_path / "point.zarr", training), tmp_path / "run").bundle
    parameters = {"policy": str(policy), "replan": 1, "max_age": 0.0, "max_ahead": 0.0, "seed": 3}
    rng = np.random.default_rng(1)
    episode = [
        {"position": rng.uniform(-0.5, 0.5, 2).astype(np.float32), "goal": np.float32([0.2, 0.1])}
        for _ in range(6)
    ]
    node = NodeSpec("policy", parameters)
    with (
        Processes([node], ros_environment, tmp_path / "log") as processes,
        Probe(point_contract(RATE)) as probe,
    ):
        probe.ready(executor=False)
        probe.reset(77, executor=False)
        for step, values in enumerate(episode):
            probe.publish(values, 10.0 + step / RATE)
            probe.wait(lambda n=step + 1: len(probe.chunks) >= n, what=f"chunk {step}")
            processes.check()
    published = {message.id: chunk_from_message(message) for _, message in probe.chunks}
    runner = load_runner(policy, seed=3)
    runner.reset(77)
    for step, values in enumerate(episode):
        runner.observe(values, 10.0 + step / RATE)
        assert runner.infer().actions.tobytes() == published[step].actions.tobytes()
