"""What the controller lets through, and how it stops."""

import numpy as np
import pytest
from control_cases import RATE, make_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from diffbot.control import Chunk, Controller, Limits
from diffbot.errors import ConfigError

STEP = 1.0 / RATE


def chunk(actions, start=0.0, **options):
    return Chunk(np.asarray(actions, np.float32), start, STEP, **options)


def constant(value, horizon=8, **options):
    return chunk(np.tile(np.float32(value), (horizon, 1)), **options)


def test_follows_a_chunk_exactly_and_holds_when_it_runs_out(contract):
    controller = Controller(contract)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 4))
    assert controller.push(chunk(actions), 0.0) == ""
    commands = [controller.command(k * STEP) for k in range(10)]
    np.testing.assert_array_equal([c.action for c in commands[:8]], np.float32(actions))
    assert [c.status for c in commands] == ["run"] * 8 + ["hold"] * 2
    assert commands[8].reason == "starved" and controller.counters["starved"] == 1
    np.testing.assert_array_equal(commands[9].action, [0, 0, 0, np.float32(actions[7, 3])])


def test_holds_before_the_first_chunk(contract):
    command = Controller(contract).command(0.0)
    assert (command.status, command.reason) == ("hold", "no_chunk")
    assert (command.action == 0).all()


def test_a_nan_chunk_stops_at_once_and_a_good_one_recovers(contract):
    controller = Controller(contract)
    controller.push(constant([0.5, 0, 0, 1.0]), 0.0)
    controller.command(0.0)
    assert controller.push(constant([np.nan, 0, 0, 1.0], start=STEP, id=1), STEP) == "non_finite_chunk"
    command = controller.command(STEP)
    assert (command.status, command.reason) == ("hold", "non_finite_chunk")
    np.testing.assert_array_equal(command.action, [0, 0, 0, 1])
    controller.push(constant([0.1, 0, 0, 1.0], start=2 * STEP, id=2), 2 * STEP)
    assert controller.command(2 * STEP).status == "run"
    assert controller.counters["non_finite_chunk"] >= 1


@pytest.mark.parametrize("meaning", ["absolute", "delta"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_no_stream_of_chunks_breaks_a_limit(meaning, seed):
    """Random chunks, drops, NaN, late and old ones: range, velocity, acceleration and jerk hold throughout."""
    rng = np.random.default_rng(seed)
    contract = make_contract(meaning)
    bounds = {"acceleration": 8.0, "jerk": 200.0} | ({"velocity": 2.0} if meaning == "absolute" else {})
    controller = Controller(contract, Limits(**bounds))
    position = rng.uniform(-1, 1, 4)
    controller.reset(position)
    out = [np.where(controller.space.relative, 0.0, position)]
    for k in range(120):
        if rng.random() < 0.3:
            actions = rng.uniform(-2, 2, (8, 4))
            if rng.random() < 0.2:
                actions[rng.integers(8)] = np.nan
            start = (k + int(rng.integers(-10, 3))) * STEP
            controller.push(chunk(actions, start, id=k), k * STEP)
        command = controller.command(k * STEP)
        assert np.isfinite(command.action).all() and np.abs(command.action).max() <= 1.0
        assert (command.reason == "") == (command.status == "run")
        out.append(command.action)
    v = np.diff(np.array(out)[:, :3].astype(np.float64), axis=0) / STEP
    a = np.diff(np.vstack([np.zeros(3), v]), axis=0) / STEP
    j = np.diff(np.vstack([np.zeros(3), a]), axis=0) / STEP
    rates = (v, a, j) if meaning == "absolute" else (None, v, a)
    # float32 commands have a rounding of 6e-8, divided by the period once for each difference
    if meaning == "absolute":
        assert np.abs(rates[0]).max() <= 2.0 + 1e-4
    assert np.abs(rates[1]).max() <= 8.0 + 1e-3
    assert np.abs(rates[2]).max() <= 200.0 + 2e-2


def test_a_seam_jump_beyond_the_limit_stops_with_its_reason():
    controller = Controller(make_contract("absolute"), Limits(seam_jump=0.2, step_jump=0.5))
    controller.push(constant([0.0, 0, 0, 0]), 0.0)
    controller.command(0.0)
    controller.push(constant([0.3, 0, 0, 0], start=STEP, id=1), STEP)
    command = controller.command(STEP)
    assert (command.status, command.reason) == ("hold", "seam_jump")
    np.testing.assert_array_equal(command.action, np.zeros(4, np.float32))


def test_the_gripper_may_jump():
    controller = Controller(make_contract("absolute"), Limits(seam_jump=0.1, step_jump=0.1, velocity=0.5))
    controller.push(chunk([[0, 0, 0, -1], [0, 0, 0, 1]]), 0.0)
    assert [controller.command(k * STEP).action[3] for k in range(2)] == [-1, 1]


@pytest.mark.parametrize(
    ("stamp", "now", "reason"), [(0.0, 0.3, "stale_observation"), (1.0, 0.0, "future_observation")]
)
def test_observation_stamps_are_checked(contract, stamp, now, reason):
    controller = Controller(contract, Limits(observation_age=0.2))
    controller.push(constant([0.5, 0, 0, 0], horizon=40), 0.0)
    controller.observe(stamp)
    assert controller.command(now).reason == reason


def test_out_of_order_observations_and_clock_jumps_are_counted(contract):
    controller = Controller(contract)
    controller.observe(1.0)
    assert controller.observe(0.5) == "out_of_order_observation"
    controller.command(1.0)
    command = controller.command(0.2)
    assert (command.status, command.reason) == ("hold", "clock_jump")
    controller.push(constant([0.1, 0, 0, 0], start=0.25), 0.25)
    assert controller.command(0.25).status == "run"


def test_emergency_stop_decelerates_within_the_limits_and_lasts():
    controller = Controller(make_contract("absolute"), Limits(velocity=1.0, acceleration=4.0))
    controller.reset(np.zeros(4))
    ramp = np.zeros((60, 4))
    ramp[:, 0] = np.linspace(0, 0.9, 60) ** 2
    controller.push(chunk(ramp), 0.0)
    x = [0.0, 0.0] + [float(controller.command(k * STEP).action[0]) for k in range(40)]
    controller.emergency_stop()
    statuses = []
    for k in range(40, 59):
        command = controller.command(k * STEP)
        x.append(float(command.action[0]))
        statuses.append(command.status)
    a = np.diff(x, 2) / STEP**2
    assert np.abs(a).max() <= 4.0 + 1e-3
    assert set(statuses) == {"stopped"} and x[-1] == x[-5]
    controller.emergency_stop(False)
    assert controller.command(59 * STEP).reason != "estop"


def test_relative_motion_out_of_the_workspace_is_refused(contract):
    box = Limits(workspace_low=(-0.5, -0.5, 0.0), workspace_high=(0.5, 0.5, 1.0))
    controller = Controller(contract, box)
    controller.push(constant([0.4, -0.4, 0.4, 1.0]), 0.0)
    controller.observe(0.0, {"eef_pos": np.float32([0.6, 0.0, 1.1])})
    command = controller.command(0.0)
    np.testing.assert_allclose(command.action, [0.0, -0.4, 0.0, 1.0])
    assert (command.status, command.reason) == ("limited", "workspace")


def test_absolute_cartesian_commands_stay_in_the_workspace():
    box = Limits(workspace_low=(-0.5, -0.5, 0.0), workspace_high=(0.5, 0.5, 1.0))
    controller = Controller(make_contract("absolute"), box)
    controller.push(constant([0.9, -0.4, -0.3, 1.0]), 0.0)
    np.testing.assert_allclose(controller.command(0.0).action, [0.5, -0.4, 0.0, 1.0])


def test_impossible_limits_are_refused(contract):
    with pytest.raises(ConfigError, match="Did you mean 'velocity'"):
        Limits.from_dict({"velocty": 1.0})
    with pytest.raises(ConfigError, match="Cartesian"):
        Controller(make_contract(space="joint"), Limits(workspace_low=(0.0,), workspace_high=(1.0,)))
    with pytest.raises(ConfigError, match="3 numbers, needs 1 or 4"):
        Controller(contract, Limits(acceleration=(1.0, 2.0, 3.0)))


def test_a_faster_control_rate_interpolates_absolute_entries_and_not_the_gripper():
    controller = Controller(make_contract("absolute"), rate=5 * RATE)
    controller.push(chunk([[0.0, 0, 0, -1], [0.5, 0, 0, 1], [0.25, 0, 0, 1]]), 0.0)
    actions = np.array([controller.command(k * STEP / 5).action for k in range(12)])
    knots = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.25])
    np.testing.assert_allclose(actions[:, 0], knots, atol=1e-5)
    np.testing.assert_array_equal(actions[:, 3], [-1] * 5 + [1] * 7)


def test_delta_actions_keep_their_rate(contract):
    with pytest.raises(ConfigError, match="20 Hz, not at 100 Hz"):
        Controller(contract, rate=100.0)


def test_a_hold_before_any_command_is_marked_where_it_means_nothing(contract):
    absolute = Controller(make_contract("absolute"))
    absolute.emergency_stop()
    assert not absolute.command(0.0).known
    assert Controller(contract).command(0.0).known
    absolute.reset(np.array([0.3, 0.2, 0.1, 0.0]))
    command = absolute.command(0.0)
    assert command.known
    np.testing.assert_allclose(command.action, [0.3, 0.2, 0.1, 0.0], atol=1e-7)
