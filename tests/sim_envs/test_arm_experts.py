"""Inverse kinematics of the arm experts, and the experts of the Jaco and kitchen tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim_envs
from sim_envs.experts.script import (
    bounded_joint_velocities,
    joint_velocities,
    nearest_yaw,
    rotation_error,
    yaw_of,
    yawed,
)
from sim_envs.recording import Recording, record_episode

JACO = ("reach-site", "reach-duplo", "lift-brick", "place-brick", "place-cradle", "stack-2-bricks")


def play(task: str, seed: int, quality: str = "expert", **options: object) -> Recording:
    env = sim_envs.make(task, **options)
    recording = record_episode(env, sim_envs.expert(task, seed=seed, quality=quality), seed)
    env.close()
    return recording


def problem(seed: int, joints: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, joints)), rng.normal(size=6), rng.normal(size=joints)


@given(st.integers(0, 10**6), st.integers(6, 9), st.floats(0.01, 1.0))
@settings(max_examples=30, deadline=None)
def test_damped_least_squares_minimises_its_cost(seed: int, joints: int, damping: float) -> None:
    """J^T (J J^T + d^2 I)^-1 x solves the normal equations (J^T J + d^2 I) v = J^T x."""
    jacobian, twist, _ = problem(seed, joints)
    found = joint_velocities(jacobian, twist, damping)
    normal = np.linalg.solve(jacobian.T @ jacobian + damping**2 * np.eye(joints), jacobian.T @ twist)
    np.testing.assert_allclose(found, normal, atol=1e-7)


def test_posture_of_a_redundant_arm_does_not_move_the_tool() -> None:
    jacobian, twist, towards = problem(3, 8)
    alone, both = (joint_velocities(jacobian, twist, 1e-6, more) for more in (None, towards))
    np.testing.assert_allclose(jacobian @ alone, twist, atol=1e-6)
    np.testing.assert_allclose(jacobian @ both, twist, atol=1e-6)
    assert np.linalg.norm(both - alone) > 0.1 and (both - alone) @ towards > 0


@given(st.integers(0, 10**6), st.floats(0.05, 3.0))
@settings(max_examples=30, deadline=None)
def test_bounds_hold(seed: int, bound: float) -> None:
    jacobian, twist, towards = problem(seed, 8)
    limit = np.full(8, bound)
    found = bounded_joint_velocities(jacobian, twist, 0.01, -limit, limit, towards)
    assert np.abs(found).max() <= bound + 1e-12
    free = joint_velocities(jacobian, twist, 0.01, towards)
    if np.abs(free).max() <= bound:
        np.testing.assert_allclose(found, free)


def test_the_free_joint_makes_up_for_the_one_at_its_bound() -> None:
    jacobian, twist = np.array([[1.0, 1.0]]), np.array([1.0])
    high = np.array([0.3, 2.0])
    found = bounded_joint_velocities(jacobian, twist, 1e-6, -high, high, np.zeros(2))
    np.testing.assert_allclose(found, [0.3, 0.7], atol=1e-6)


@given(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([np.pi / 2, np.pi, 2 * np.pi]))
def test_nearest_yaw_is_equivalent_and_near(yaw: float, present: float, symmetry: float) -> None:
    found = nearest_yaw(yaw, yawed(present), symmetry)
    turns = (found - yaw) / symmetry
    assert abs(turns - round(turns)) < 1e-6 and abs(found - yaw_of(yawed(present))) <= symmetry / 2 + 1e-9
    assert np.linalg.norm(rotation_error(yawed(found), yawed(found))) < 1e-7


def test_jaco_lifts_and_repeats_itself() -> None:
    first, again = (play("dm_control/manipulation-lift-brick", 200_003) for _ in range(2))
    assert first.success and first.mode == again.mode
    np.testing.assert_array_equal(first.actions, again.actions)
    np.testing.assert_array_equal(first.states, again.states)
    assert np.abs(first.actions[:, :3]).max() <= np.deg2rad(36) + 1e-6  # the arm's own limit


def test_kitchen_expert_does_a_subtask_and_draws_orders() -> None:
    env = sim_envs.make("kitchen/mixed", subtasks=("slide cabinet",))
    recording = record_episode(env, sim_envs.expert("kitchen/mixed", seed=1), 200_001)
    assert recording.success and recording.terminated[-1] and recording.rewards.sum() == 1
    env.close()
    env = sim_envs.make("kitchen/mixed")
    env.reset(seed=0)
    modes = set()
    for seed in range(30):
        expert = sim_envs.expert("kitchen/mixed", seed=seed)
        expert.reset(env)
        modes.add(tuple(part.rsplit(" ", 1)[0] for part in expert.mode.split(", ")))
    assert len(modes) > 15  # orders of four sub-tasks
    env.close()
    env = sim_envs.make("kitchen/mixed", subtasks=("hinge cabinet",))
    env.reset(seed=0)
    with pytest.raises(sim_envs.SimEnvError, match="with a script"):
        sim_envs.expert("kitchen/mixed").reset(env)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", JACO)
def test_jaco_experts_reach_their_level(task: str) -> None:
    results = [play(f"dm_control/manipulation-{task}", seed).success for seed in range(500, 508)]
    assert sum(results) >= (8 if task.startswith("reach") else 5)


@pytest.mark.slow
@pytest.mark.parametrize("subtask", ["microwave", "kettle", "light switch", "slide cabinet", "bottom burner"])
def test_kitchen_expert_does_every_subtask(subtask: str) -> None:
    results = [play("kitchen/mixed", seed, subtasks=(subtask,)).success for seed in range(500, 504)]
    assert sum(results) >= 3


@pytest.mark.slow
def test_lower_quality_lifts_later() -> None:
    task = "dm_control/manipulation-lift-brick"
    returns = [
        np.mean([play(task, seed, quality).rewards.sum() for seed in range(500, 506)])
        for quality in ("expert", "okay", "poor")
    ]
    assert returns[0] > returns[1] > returns[2]
