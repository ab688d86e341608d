"""The consistency policy: its teacher's ODE, its loss, and a bundle that stands without the teacher."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.diffusion.constraints import Clip
from diffbot.diffusion.denoiser import Denoiser
from diffbot.diffusion.solvers import ddim
from diffbot.errors import ConfigError
from diffbot.methods.bundle import load_bundle
from diffbot.methods.pair_buffer import PairBuffer
from diffbot.methods.policies.consistency_policy import (
    ConsistencyPolicy,
    ConsistencyPolicyConfig,
)
from diffbot.methods.policies.diffusion_policy import DiffusionPolicyConfig
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig
from diffbot.training.data import load_data

STEPS = 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A point that goes left or right of the line ahead: two modes in every state."""
    path = tmp_path_factory.mktemp("data") / "modes.zarr"
    contract = Contract({"position": Field((2,))}, Action((2,), meaning="delta"), rate=10.0, task="toy/modes")
    store = EpisodeStore.create(path, contract)
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for episode in range(40):
            side = 1.0 if episode % 2 else -1.0
            action = np.tile(np.array([0.1, 0.1 * side]), (12, 1)) + 0.002 * rng.normal(size=(12, 2))
            position = np.concatenate([np.zeros((1, 2)), action.cumsum(axis=0)[:-1]])
            arrays = {"position": position.astype(np.float32), "action": action.astype(np.float32)}
            writer.append(arrays, {"success": True})
    return path


def train(folder: Path, dataset: Path, method: str, config: object, steps: int) -> Path:
    training = TrainingConfig(steps=steps, batch_size=64, validation=0.0, tensorboard=False, threads=1)
    return runs.start(runs.RunSpec(method, config, dataset, training), folder).bundle


@pytest.fixture(scope="module")
def teacher(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DiffusionPolicyConfig(
        observation_horizon=1,
        horizon=4,
        action_horizon=2,
        network_options={"width": 64, "depth": 2},
        inference_steps=STEPS,
    )
    return train(tmp_path_factory.mktemp("teacher"), dataset, "diffusion_policy", config, 400)


def student(teacher: Path, dataset: Path, **options: object) -> tuple[ConsistencyPolicy, object]:
    config = ConsistencyPolicyConfig(teacher=str(teacher), teacher_steps=STEPS, **options)
    data = load_data(dataset, ConsistencyPolicy, config, held_out=0.0, seed=0)
    policy = ConsistencyPolicy(config, data.method_contract)
    policy.begin_training()
    return policy, data.transforms.forward_batch(data.train.gather(np.arange(64)))


def test_following_every_step_is_the_teachers_own_solver(teacher, dataset):
    policy, batch = student(teacher, dataset)
    teach = load_bundle(teacher).method
    x = torch.randn(batch.actions.shape, generator=torch.Generator().manual_seed(0))
    grid = policy.grid.float()
    first, last = torch.zeros(64, dtype=torch.long), torch.full((64,), STEPS)
    denoise = Denoiser(teach.network, teach.schedule, teach.prediction, teach.encode(batch.observations))
    expected = ddim(denoise, x, policy.grid, constraint=Clip(-1.0, 1.0))
    torch.testing.assert_close(policy.follow(x, first, last, grid, batch), expected, rtol=0, atol=2e-5)


def test_rows_follow_their_own_number_of_steps(teacher, dataset):
    policy, batch = student(teacher, dataset)
    x = torch.randn(batch.actions.shape, generator=torch.Generator().manual_seed(0))
    grid = policy.grid.float()
    first = torch.arange(64) % STEPS
    last = (first + 1 + torch.arange(64) % 3).clamp(max=STEPS)
    together = policy.follow(x, first, last, grid, batch)
    middle = policy.follow(x, first, first + 1, grid, batch)
    torch.testing.assert_close(
        policy.follow(middle, first + 1, last, grid, batch), together, rtol=0, atol=1e-6
    )
    assert torch.equal(policy.follow(x, first, first, grid, batch), x)


def test_the_student_is_the_identity_at_the_clean_end(teacher, dataset):
    policy, batch = student(teacher, dataset)
    denoise = Denoiser(policy.network, policy.schedule, policy.prediction, policy.encode(batch.observations))
    x = batch.actions
    torch.testing.assert_close(denoise(x, torch.zeros(64)), x, rtol=0, atol=1e-3)


def test_one_evaluation_comes_close_to_the_teacher_and_keeps_both_modes(teacher, dataset, tmp_path):
    config = ConsistencyPolicyConfig(teacher=str(teacher), teacher_steps=STEPS)
    bundle = train(tmp_path / "student", dataset, "consistency_policy", config, 300)
    policy, teach = load_bundle(bundle), load_bundle(teacher)
    for name, value in teach.transforms.statistics().items():
        assert torch.equal(policy.transforms.statistics()[name], value)
    observation = policy.transforms.forward({"position": torch.zeros(200, 1, 2)})
    actions = [p.method.act(observation, generator=torch.Generator().manual_seed(1)) for p in (policy, teach)]
    one, many = (policy.transforms.inverse({"action": a})["action"] for a in actions)
    spread = many[:, 0, 1].abs().mean()
    assert (one - many).abs().mean() < 0.25 * spread
    sides = (one[:, 0, 1] > 0).double().mean().item()
    assert 0.25 < sides < 0.75


def test_the_bundle_needs_no_teacher_and_one_evaluation(teacher, dataset, tmp_path):
    config = ConsistencyPolicyConfig(teacher=str(teacher), teacher_steps=STEPS)
    bundle = train(tmp_path / "student", dataset, "consistency_policy", config, 2)
    hidden = teacher.rename(teacher.with_name("moved"))
    try:
        policy = load_bundle(bundle).method
    finally:
        hidden.rename(teacher)
    assert (policy.horizon, policy.action_horizon, policy.observation_horizon) == (4, 2, 1)
    calls = []
    policy.network.register_forward_hook(lambda *_: calls.append(1))
    observation = {"position": torch.zeros(3, 1, 2)}
    first = policy.act(observation, generator=torch.Generator().manual_seed(0))
    assert first.shape == (3, 4, 2) and len(calls) == 1
    assert torch.equal(first, policy.act(observation, generator=torch.Generator().manual_seed(0)))


def test_solved_points_lie_on_one_trajectory(teacher, dataset):
    policy, batch = student(teacher, dataset, inference_steps=2)
    rows = policy.solve(batch.observations, torch.Generator().manual_seed(0))
    assert rows["points"].shape == (64, 2, 4, 2)
    grid = policy.grid.float()
    start, half = torch.zeros(64, dtype=torch.long), torch.full((64,), STEPS // 2)
    noise = torch.randn(batch.actions.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows["points"][:, 0], noise)
    middle = policy.follow(noise, start, half, grid, batch)
    torch.testing.assert_close(rows["points"][:, 1], middle, rtol=0, atol=2e-5)
    end = policy.follow(middle, half, 2 * half, grid, batch)
    torch.testing.assert_close(rows["end"], end, rtol=0, atol=2e-5)


@pytest.mark.parametrize("target", ["teacher", "self"])
def test_training_resumes_exactly(teacher, dataset, target):
    policy, batch = student(teacher, dataset, target=target, buffer=100)
    for _ in range(3):
        policy.update(batch)
    state = copy.deepcopy(policy.training_state())
    losses = [float(policy.update(batch)["loss"]) for _ in range(3)]
    again, _ = student(teacher, dataset, target=target, buffer=100)
    again.load_training_state(state)
    assert [float(again.update(batch)["loss"]) for _ in range(3)] == losses


def test_training_on_itself_also_approaches_the_teachers_solves(teacher, dataset):
    policy, batch = student(teacher, dataset, target="self", jump=2, anchor=0.1)
    rows = policy.solve(batch.observations, torch.Generator().manual_seed(9))
    online = policy.learner.online

    def distance() -> float:
        with torch.no_grad():
            return float(policy.regression(online, rows, torch.Generator().manual_seed(0)))

    before = distance()
    for _ in range(300):
        policy.update(batch)
    assert distance() < 0.6 * before


def test_the_ring_keeps_the_newest_rows():
    ring = PairBuffer(4)
    with pytest.raises(ValueError, match="nothing was added"):
        ring.draw(1, torch.Generator())
    for start in (0, 3):
        ring.add({"a": torch.arange(start, start + 3)})
    assert ring.size == 4 and set(ring.rows["a"].tolist()) == {2, 3, 4, 5}
    ring.add({"a": torch.arange(10, 20)})
    assert set(ring.rows["a"].tolist()) == {16, 17, 18, 19}
    drawn = ring.draw(100, torch.Generator().manual_seed(0))["a"]
    assert set(drawn.tolist()) == {16, 17, 18, 19}


def test_errors_say_what_to_give(teacher, dataset, tmp_path):
    with pytest.raises(ConfigError, match=r"give method.teacher=runs/NAME"):
        load_data(dataset, ConsistencyPolicy, ConsistencyPolicyConfig(), held_out=0.0, seed=0)
    with pytest.raises(ConfigError, match="jump <= teacher_steps, got 8 and 9"):
        ConsistencyPolicyConfig(teacher_steps=8, jump=9)
    with pytest.raises(ConfigError, match="inference_steps=3 must divide teacher_steps=8"):
        ConsistencyPolicyConfig(teacher_steps=8, inference_steps=3)
    with pytest.raises(ConfigError, match="Did you mean 'teacher'"):
        ConsistencyPolicyConfig(target="teachers")
    config = ConsistencyPolicyConfig(teacher=str(teacher), teacher_steps=STEPS)
    bundle = train(tmp_path / "student", dataset, "consistency_policy", config, 1)
    with pytest.raises(ConfigError, match="is a 'consistency_policy', not a diffusion_policy"):
        student(bundle, dataset)
    assert dataclasses.asdict(load_bundle(bundle).config)["network"] == "mlp"
