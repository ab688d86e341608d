"""Relative actions return to the path of their chunk; nothing else changes."""

import numpy as np
import pytest
from control_cases import RATE, make_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from diffbot.control import Chunk, Controller
from diffbot.control.makeup import MakeUp
from diffbot.control.stitch import RealTimeChunking, soft_mask, stitcher_by_name

STEP = 1.0 / RATE
WIDE = np.full(3, 10.0)
MOTION = np.array([True, True, False])


def follow(plan, executed, rate=0.3, low=-WIDE, high=WIDE):
    """Commands of the steps of `plan` [H, 3] after the first len(executed) were taken by `executed`."""
    makeup = MakeUp(MOTION, low, high, rate)
    chunk = Chunk(plan, 0.0, STEP)
    for j, action in enumerate(executed):
        makeup.executed(j * STEP, action)
    actions = []
    for i in range(len(executed), len(plan)):
        actions.append(makeup.action(chunk, i, i * STEP))
        np.testing.assert_array_equal(
            actions[-1], makeup.action(chunk, i, i * STEP)
        )  # asking changes nothing
        makeup.executed(i * STEP, actions[-1])
    return np.array(actions)


def random_plan(seed, steps=60):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 3)).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 8))
def test_what_was_planned_is_executed_unchanged(seed, delay):
    plan = random_plan(seed)
    np.testing.assert_allclose(follow(plan, plan[:delay]), plan[delay:], atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(0.3, 0.5))
def test_the_robot_ends_on_the_path_that_the_chunk_planned(seed, delay, rate):
    plan = random_plan(seed)
    before = random_plan(seed + 1)[:delay]
    after = follow(plan, before, rate)
    lacking = plan[:, :2].sum(0) - before[:, :2].sum(0) - after[:, :2].sum(0)
    first = np.abs(plan[:delay, :2].sum(0) - before[:, :2].sum(0)) + 1.0
    assert (np.abs(lacking) < 1e-3 * first).all()
    np.testing.assert_allclose(after[-3:, :2], plan[-3:, :2], atol=2e-3)
    np.testing.assert_array_equal(after[:, 2], plan[delay:, 2])  # a gripper is not a motion


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.5])
def test_the_return_neither_oscillates_nor_grows(rate):
    step = np.array([[1 - 2 * rate, rate**2], [-(1 - 2 * rate), 1 - rate**2]])  # of (b, r)
    values = np.linalg.eigvals(step)
    assert np.isreal(values).all() and (values.real >= 0).all() and (values.real < 1).all()
    plan = np.zeros((150, 3), np.float32)
    offset = np.array([[1.0, 0.0, 0.0]])
    commands = follow(plan, offset, rate)[:, 0]
    path = 1.0 + np.cumsum(commands)
    peak = int(path.argmax())
    assert (np.diff(path[peak:]) <= 1e-6).all() and -1e-3 < path[-1] < 0.01  # straight back, not beyond


def test_commands_stay_in_range():
    plan = np.full((20, 3), 0.9, np.float32)
    actions = follow(plan, -plan[:4], low=-np.ones(3), high=np.ones(3))
    assert np.abs(actions).max() <= 1.0


def test_rates_that_would_oscillate_are_refused():
    with pytest.raises(ValueError, match=r"0\.5"):
        MakeUp(MOTION, -WIDE, WIDE, 0.7)


def drive(stitching):
    """Final position of a point robot whose second chunk was computed while another path was executed."""
    contract = make_contract("delta")
    controller = Controller(contract, stitcher=stitching)
    controller.push(
        Chunk(np.tile([0.3, 0, 0, 1.0], (16, 1)), 0.0, STEP, id=0, contract_hash=contract.hash()), 0.0
    )
    position = np.zeros(4)
    for k in range(28):
        if k == 8:  # observed at step 4, where the plan was to turn
            turned = Chunk(np.tile([0.0, 0.2, 0, -1.0], (24, 1)), 4 * STEP, STEP, id=1)
            assert controller.push(turned, k * STEP) == ""
        command = controller.command(k * STEP)
        position += command.action
        assert command.status == "run"
    return position, command


def test_real_time_chunking_of_relative_actions_ends_where_the_chunk_leads():
    planned = np.array([4 * 0.3, 24 * 0.2])
    position, command = drive("rtc")
    np.testing.assert_allclose(position[:2], planned, atol=0.05)
    assert command.action[3] == -1.0
    missed, _ = drive("switch")
    assert missed[0] - planned[0] == pytest.approx(4 * 0.3, abs=1e-5)


def test_only_absolute_actions_are_pinned():
    relative = stitcher_by_name("rtc", make_contract("delta").action)
    absolute = stitcher_by_name("rtc", make_contract("absolute").action)
    assert isinstance(relative, RealTimeChunking) and relative.makes_up and not relative.pinned
    assert not absolute.makes_up and not stitcher_by_name("switch", make_contract("delta").action).makes_up
    controller = Controller(make_contract("delta"), stitcher="rtc")
    controller.push(Chunk(np.zeros((16, 4)), 0.0, STEP), 0.0)
    weights = controller.prefix(4 * STEP, 3, 16).weights
    mask = soft_mask(16, 3, 8)
    assert (weights[:3] < 1).all() and (weights[:3] > 0.95).all()
    np.testing.assert_allclose(weights / weights[0], mask, atol=1e-6)
