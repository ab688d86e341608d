"""Push-T: the coverage metric against closed forms and Monte Carlo, the task, the expert."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim_envs
from sim_envs.pusht import geometry, navigation
from sim_envs.pusht.env import PUSHER_RADIUS, SUCCESS_COVERAGE

poses = st.tuples(st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.floats(-np.pi, np.pi)).map(np.array)


def inside(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    local = geometry.to_block(pose, points)[:, None]
    return ((local >= geometry.RECTANGLES[:, :2]) & (local <= geometry.RECTANGLES[:, 2:])).all(-1).any(-1)


def test_coverage_closed_forms() -> None:
    assert geometry.coverage(geometry.GOAL_POSE) == pytest.approx(1.0, abs=1e-12)
    assert geometry.coverage(np.add(geometry.GOAL_POSE, [0.3, 0, 0])) == 0.0
    upright = np.array([0.256, 0.256, 0.0])
    for shift in (0.005, 0.02):
        # Moved sideways the bar keeps 120 - s of its length and the stem 30 - s of its width; the stem's lost side is
        # nowhere under the bar, and the other way round.
        kept = (0.12 - shift) * 0.03 + (0.03 - shift) * 0.09
        assert geometry.coverage(np.add(upright, [shift, 0, 0]), upright) == pytest.approx(
            kept / 0.0063, abs=1e-9
        )
    # Turned by 180 degrees about the middle of the bar, only the bar stays where it was.
    turned = np.array([0.256, 0.286, np.pi])
    assert geometry.coverage(turned, upright) == pytest.approx(0.0036 / 0.0063, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(poses, poses)
def test_coverage_is_symmetric_and_agrees_with_counting_points(first: np.ndarray, second: np.ndarray) -> None:
    second = first + 0.3 * (second - first)
    covered = geometry.coverage(first, second)
    assert 0.0 <= covered <= 1.0
    assert geometry.coverage(second, first) == pytest.approx(covered, abs=1e-9)
    x, y = np.meshgrid(np.linspace(-0.06, 0.06, 241), np.linspace(0.0, 0.12, 241))
    grid = geometry.to_world(second, np.stack([x.ravel(), y.ravel()], -1))
    grid = grid[inside(second, grid)]
    assert inside(first, grid).mean() == pytest.approx(covered, abs=0.02)


@given(poses)
def test_pose_and_joints_are_inverse(pose: np.ndarray) -> None:
    np.testing.assert_allclose(geometry.pose_from_joints(geometry.joints_from_pose(pose)), pose, atol=1e-12)


def test_model_and_geometry_describe_the_same_block() -> None:
    env = sim_envs.make("pusht/state").unwrapped
    env.reset(seed=4)
    for name, rectangle in zip(("bar", "stem"), geometry.RECTANGLES, strict=True):
        centre = geometry.to_world(env.block_pose, (rectangle[:2] + rectangle[2:])[None] / 2)[0]
        np.testing.assert_allclose(env.data.geom(name).xpos[:2], centre, atol=1e-9)
        np.testing.assert_allclose(env.model.geom(name).size[:2], (rectangle[2:] - rectangle[:2]) / 2)


def test_block_rests_until_pushed_and_reward_is_coverage() -> None:
    env = sim_envs.make("pusht/state").unwrapped
    observation, info = env.reset(seed=0)
    pose = env.block_pose
    for _ in range(20):
        observation, reward, terminated, _, info = env.step(observation["pusher_position"])
    np.testing.assert_allclose(env.block_pose, pose, atol=1e-6)
    assert reward == pytest.approx(min(info["coverage"] / SUCCESS_COVERAGE, 1.0))
    assert not terminated
    env.data.qpos[:3] = geometry.joints_from_pose(geometry.GOAL_POSE)
    env.data.qpos[3:5] = 0.05
    env.set_state(env.get_state())
    _, reward, terminated, truncated, info = env.step(np.full(2, 0.05, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)


def test_reset_spreads_over_the_table_without_overlap() -> None:
    env = sim_envs.make("pusht/state").unwrapped
    angles = []
    for seed in range(40):
        _, info = env.reset(seed=seed)
        assert geometry.distance_to_block(env.block_pose, env.pusher_position) > PUSHER_RADIUS
        assert not info["success"]
        angles.append(env.block_pose[2])
    assert np.ptp(angles) > 5.0


@settings(max_examples=25, deadline=None)
@given(poses, st.integers(0, 2**16))
def test_ways_around_the_block_do_not_touch_it(pose: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start, goals = rng.uniform(0.05, 0.45, 2), rng.uniform(0.05, 0.45, (6, 2))
    near = navigation.inside(
        geometry.to_block(pose, start)
    )  # then the way begins with the nearest free point
    lengths, ways = navigation.path(pose, start, goals)
    for length, way, goal in zip(lengths, ways, goals, strict=True):
        if not np.isfinite(length):
            continue
        np.testing.assert_allclose(way[-1], goal, atol=1e-9)
        corners = np.array(way)
        assert near or np.allclose(corners[0], start, atol=1e-9)
        assert length == pytest.approx(np.linalg.norm(np.diff(corners, axis=0), axis=1).sum(), abs=1e-6)
        for a, b in itertools.pairwise(corners):
            points = a + np.linspace(0, 1, 40)[:, None] * (b - a)
            assert min(geometry.distance_to_block(pose, p) for p in points) > PUSHER_RADIUS


def play(quality: str, seeds: range) -> tuple[float, set[str]]:
    env = sim_envs.make("pusht/state")
    expert = sim_envs.expert("pusht/state", seed=1, quality=quality)
    successes, modes = 0, set()
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        expert.reset(env)
        modes.add(expert.mode)
        done = False
        while not done:
            observation, _, terminated, truncated, info = env.step(expert.act(env, observation))
            done = terminated or truncated
        successes += info["success"]
    return successes / len(seeds), modes


def test_expert_reaches_the_goal_in_several_ways() -> None:
    rate, modes = play("expert", range(200, 208))
    assert rate >= 7 / 8
    assert len(modes) >= 3


@pytest.mark.slow
def test_qualities_are_ordered() -> None:
    rates = [play(quality, range(30))[0] for quality in ("expert", "okay", "poor")]
    assert rates[0] >= 0.9
    assert rates[0] > rates[1] > rates[2]
