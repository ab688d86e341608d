"""Learned behaviour policies: the same numbers as the network they were exported from, and what the committed ones reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import sim_envs
from sim_envs.behaviour.export import choose
from sim_envs.behaviour.policy import from_arrays, learner
from sim_envs.behaviour.settings import SETTINGS
from sim_envs.recording import record_episode
from sim_envs.reference_scores import normalised_score


def network(generator: torch.Generator) -> tuple[torch.nn.Sequential, dict[str, np.ndarray]]:
    """A random torch actor 5 -> 8 -> 8 -> 2 and its arrays."""
    layers = [torch.nn.Linear(a, b) for a, b in ((5, 8), (8, 8), (8, 2))]
    arrays = {"std": np.array([0.3, 0.1], np.float32)}
    for i, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
            arrays[f"{i}.{name}"] = parameter.data.numpy()
    arrays["mean"], arrays["scale"] = np.arange(5, dtype=np.float32), np.full(5, 0.5, np.float32)
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2]), arrays


def test_policy_equals_the_torch_network_on_normalised_clipped_observations() -> None:
    actor, arrays = network(torch.Generator().manual_seed(3))
    observations = np.random.default_rng(0).normal(scale=6.0, size=(64, 5))
    seen = np.clip((observations - arrays["mean"]) / 0.5, -10, 10)
    assert (np.abs(seen) == 10).any()
    with torch.no_grad():
        expected = actor(torch.tensor(seen, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(from_arrays(arrays)(observations), expected, rtol=1e-4, atol=1e-4)


def test_sampled_actions_have_the_learner_s_deviation_and_stay_in_range() -> None:
    _, arrays = network(torch.Generator().manual_seed(0))
    arrays = {key: value * 0 if key[0].isdigit() else value for key, value in arrays.items()}
    policy, rng = from_arrays(arrays), np.random.default_rng(1)
    actions = np.stack([policy.sample(np.zeros(5), rng) for _ in range(4000)])
    np.testing.assert_allclose(actions.std(0), [0.3, 0.1], rtol=0.05)
    assert np.abs(actions.mean(0)).max() < 0.02 and np.abs(actions).max() <= 1.0


def test_snapshots_are_chosen_by_score_and_stages_lie_evenly_before_the_medium() -> None:
    scores = [float(s) for s in range(0, 120, 2)]  # 60 snapshots
    chosen = choose(scores, medium=50.0)
    assert scores[chosen["medium"]] == 48.0
    stages = [chosen[f"stage-{i:02d}"] for i in range(1, 13)]
    assert stages == list(range(0, 24, 2))
    assert choose([0.0, 10.0, 30.0], medium=50.0)["medium"] == 2


def test_a_missing_file_or_quality_is_named(tmp_path: Path) -> None:
    with pytest.raises(sim_envs.SimEnvError, match=r"ant\.safetensors"):
        learner("ant", tmp_path)
    _, arrays = network(torch.Generator().manual_seed(0))
    stacked = {key: np.stack([value, 2 * value]) for key, value in arrays.items()}
    about = '{"steps": {"medium": 5, "expert": 9}, "scores": {"medium": 1.0, "expert": 2.0}}'
    save_file(stacked, tmp_path / "ant.safetensors", metadata={"about": about})
    learned = learner("ant", tmp_path)
    np.testing.assert_array_equal(learned.policy("expert").std, 2 * learned.policy("medium").std)
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'medium'"):
        learned.policy("medum")
    with pytest.raises(sim_envs.SimEnvError, match="unknown quality of task 'locomotion/hopper'"):
        sim_envs.expert("locomotion/hopper", quality="good")


@pytest.mark.parametrize("task", [t for t in SETTINGS if t.startswith("locomotion/")])
def test_committed_policies_keep_their_scores(task: str) -> None:
    learned, env = learner(task.split("/")[1]), sim_envs.make(task)
    assert set(sim_envs.spec(task).qualities) == {"random", *learned.policies}
    scores = {}
    for quality in ("random", "medium", "expert"):
        recording = record_episode(env, sim_envs.expert(task, seed=7, quality=quality), 7)
        again = record_episode(env, sim_envs.expert(task, seed=7, quality=quality), 7)
        assert np.array_equal(recording.actions, again.actions) and np.abs(recording.actions).max() <= 1
        assert recording.terminated[-1] == (len(recording) < 1000) and not recording.terminated[:-1].any()
        scores[quality] = normalised_score(task, float(recording.rewards.sum()))
    assert scores["random"] < 5 < scores["medium"] < scores["expert"] + 10
    env.close()
