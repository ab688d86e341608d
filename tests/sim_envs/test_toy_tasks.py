"""Toy distributions and bandits."""

from __future__ import annotations

import numpy as np
import pytest

import sim_envs
from sim_envs.toy.distributions import DISTRIBUTIONS, distribution


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_samples_lie_on_the_support_with_the_stated_noise(name: str) -> None:
    shape = distribution(name)
    points, labels = shape.sample(np.random.default_rng(0), 4000)
    assert points.shape == (4000, 2) and labels.shape == (4000,)
    assert np.abs(shape.support).max() <= 1.0
    distances = shape.distance(points)
    assert (distances < 4 * shape.noise + 0.02).mean() > 0.999
    assert np.ptp(points, axis=0).min() > 0.5


@pytest.mark.parametrize("name", ["four-gaussians", "eight-gaussians", "grid-gaussians"])
def test_mixtures_have_their_moments(name: str) -> None:
    shape = distribution(name)
    points, labels = shape.sample(np.random.default_rng(1), 40_000)
    counts = np.bincount(labels, minlength=len(shape.support)) / len(labels)
    np.testing.assert_allclose(counts, 1 / len(shape.support), atol=0.02)
    for label, centre in enumerate(shape.support):
        own = points[labels == label]
        np.testing.assert_allclose(own.mean(0), centre, atol=5 * shape.noise / np.sqrt(len(own)))
        np.testing.assert_allclose(own.std(0), shape.noise, rtol=0.1)


def test_chequerboard_fills_its_dark_fields_only() -> None:
    points, labels = distribution("chequerboard").sample(np.random.default_rng(0), 20_000)
    clean = np.floor((points + 1) / 0.5).astype(int)
    dark = (clean.sum(1) % 2 == 0).mean()
    assert dark > 0.9  # the noise of 0.01 blurs the edges
    assert len(set(labels)) == 8


def test_bandit_pays_most_in_one_mode_that_the_expert_takes() -> None:
    env = sim_envs.make("toy/bandit-25").unwrapped
    means = np.array(
        [np.mean([play(env, centre, seed) for seed in range(60)]) for centre in env.shape.support]
    )
    assert means.argmax() == env.rewards.argmax()
    np.testing.assert_allclose(means, env.rewards, atol=0.3)
    expert = sim_envs.expert("toy/bandit-25", seed=0)
    env.reset(seed=0)
    expert.reset(env)
    assert env.step(expert.act(env, {}))[4]["mode"] == env.rewards.argmax()
    assert play(env, np.array([0.2, 0.2]), 0) < 1.5  # between the modes only the noise is paid


def play(env, point: np.ndarray, seed: int) -> float:
    env.reset(seed=seed)
    _, reward, terminated, truncated, _ = env.step(point.astype(np.float32))
    assert terminated and not truncated
    return reward


def test_qualities_widen_the_noise() -> None:
    env = sim_envs.make("toy/four-gaussians").unwrapped
    spread = {}
    for quality in ("expert", "poor"):
        expert = sim_envs.expert("toy/four-gaussians", seed=0, quality=quality)
        points = []
        for seed in range(400):
            env.reset(seed=seed)
            expert.reset(env)
            points.append(expert.act(env, {}))
        spread[quality] = env.shape.distance(np.array(points)).mean()
    assert spread["poor"] > 3 * spread["expert"]


def test_unknown_distribution() -> None:
    with pytest.raises(sim_envs.SimEnvError, match="Did you mean 'two-moons'"):
        distribution("two-moon")
