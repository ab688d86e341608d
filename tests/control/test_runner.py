"""One runner for evaluator and robot: history on the time grid, the same bits for the same input."""

import numpy as np
import pytest
import torch
from control_cases import RATE, make_contract, make_policy, observe
from hypothesis import given
from hypothesis import strategies as st

from diffbot.control import CommittedPrefix, PolicyRunner
from diffbot.control.history import ObservationHistory
from diffbot.control.runner import step_seed
from diffbot.errors import ContractError

STEP = 1.0 / RATE


@given(st.integers(1, 4), st.integers(1, 12), st.floats(-0.2, 0.2), st.integers(1, 3))
def test_history_equals_the_windows_rule(horizon, steps, jitter, oversampling):
    """Entry k is the observation of step t - horizon + 1 + k, at least 0, whatever the sensor's rate and jitter."""
    history = ObservationHistory(horizon, STEP)
    for i in range((steps - 1) * oversampling + 1):
        shift = 0.0 if i % oversampling == 0 else jitter / oversampling
        history.push({"a": np.array([i / oversampling])}, (i / oversampling + shift) * STEP)
    newest = steps - 1
    expected = [max(0, newest - horizon + 1 + k) for k in range(horizon)]
    np.testing.assert_array_equal(history.sample()["a"][:, 0], expected)


def test_history_refuses_old_stamps_and_is_empty_at_first():
    history = ObservationHistory(2, STEP)
    with pytest.raises(LookupError):
        history.sample()
    assert history.push({"a": np.zeros(1)}, 1.0)
    assert not history.push({"a": np.ones(1)}, 1.0)
    assert not history.push({"a": np.ones(1)}, 0.5)
    assert history.sample()["a"].max() == 0


def test_seeds_differ_in_every_argument():
    seeds = {step_seed(a, b, c) for a in range(4) for b in range(4) for c in range(40)}
    assert len(seeds) == 4 * 4 * 40
    assert all(0 <= s < 2**63 for s in seeds)


@pytest.mark.parametrize("backend", ["eager", "auto"])
def test_identical_observations_give_bit_identical_chunks(policy, contract, backend):
    first, second = (PolicyRunner(policy, seed=3, backend=backend) for _ in range(2))
    second.warm_up()
    first.reset(7)
    second.reset(7, start=100.0)
    for k in range(6):
        first.observe(observe(contract, k), k * STEP)
        second.observe(observe(contract, k), 100.0 + k * STEP)
        if k in (0, 1, 5):
            np.testing.assert_array_equal(first.infer().actions, second.infer().actions)
    first.reset(8)
    first.observe(observe(contract, 5), 0.0)
    second.reset(9)
    second.observe(observe(contract, 5), 0.0)
    assert not np.array_equal(first.infer().actions, second.infer().actions)


def test_chunk_is_stamped_and_in_the_contracts_units(policy, contract):
    runner = PolicyRunner(policy, seed=0)
    runner.reset(1)
    for k in range(3):
        runner.observe(observe(contract, k), k * STEP)
    chunk = runner.infer()
    assert chunk.actions.shape == (runner.horizon, 4) and chunk.actions.dtype == np.float32
    assert chunk.start == chunk.observation_time == 2 * STEP and chunk.step == pytest.approx(STEP)
    assert chunk.contract_hash == contract.hash()
    # the method works in [-1, 1]; the inverse transform leads back to the data's range
    low, high = (
        policy.transforms.inverse({"action": torch.full((1, 1, 4), v)})["action"][0, 0] for v in (-1.0, 1.0)
    )
    assert (chunk.actions >= low.numpy() - 1e-5).all() and (chunk.actions <= high.numpy() + 1e-5).all()


def test_a_hard_prefix_is_exact_and_a_free_one_changes_nothing(policy, contract):
    runner = PolicyRunner(policy, seed=0)
    runner.reset(1)
    runner.observe(observe(contract, 0), 0.0)
    free = runner.infer().actions
    actions = np.random.default_rng(0).uniform(-0.4, 0.4, free.shape).astype(np.float32)
    weights = np.zeros(len(free), np.float32)
    np.testing.assert_allclose(runner.infer(CommittedPrefix(actions, weights)).actions, free, atol=1e-6)
    weights[:5] = 1.0
    tied = runner.infer(CommittedPrefix(actions, weights)).actions
    np.testing.assert_allclose(tied[:5], actions[:5], atol=1e-5)
    assert not np.allclose(tied[5:], actions[5:], atol=1e-2)


def test_bad_observations_are_named(policy, contract):
    runner = PolicyRunner(policy)
    good = observe(contract, 0)
    with pytest.raises(ContractError, match="lacks 'object'"):
        runner.observe({"eef_pos": good["eef_pos"]}, 0.0)
    with pytest.raises(ContractError, match="NaN"):
        runner.observe({**good, "object": np.full(5, np.nan, np.float32)}, 0.0)
    with pytest.raises(ContractError, match="float64"):
        runner.observe({**good, "object": np.zeros(5)}, 0.0)


def test_warm_up_leaves_no_trace(policy, contract):
    runner = PolicyRunner(policy, seed=0)
    runner.reset(1)
    runner.observe(observe(contract, 0), 0.0)
    before = PolicyRunner(make_policy(make_contract()), seed=0)
    before.reset(1)
    before.observe(observe(contract, 0), 0.0)
    runner.warm_up()
    chunk = runner.infer()
    assert chunk.id == 0
    np.testing.assert_array_equal(chunk.actions, before.infer().actions)
