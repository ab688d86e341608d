"""Bounds hold for the finite differences of every emitted command, whatever is asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffbot.control.shaper import Shaper, ramp_acceleration

DT = 0.02


def build(low=-1.0, high=1.0, velocity=np.inf, acceleration=np.inf, jerk=np.inf, first_order=False, n=3):
    full = [np.full(n, float(b)) for b in (low, high, velocity, acceleration, jerk)]
    return Shaper(*full, first_order=np.full(n, first_order), dt=DT)


def differences(commands, dt=DT):
    """Velocity, acceleration and jerk of a stream that starts at rest at its first row."""
    x = np.concatenate([np.repeat(commands[:1], 3, axis=0), commands[1:]])
    v = np.diff(x, axis=0) / dt
    a = np.diff(np.concatenate([np.zeros_like(v[:1]), v]), axis=0) / dt
    j = np.diff(np.concatenate([np.zeros_like(a[:1]), a]), axis=0) / dt
    return v, a, j


limits = st.fixed_dictionaries(
    {
        "velocity": st.sampled_from([0.3, 1.0, 5.0]),
        "acceleration": st.sampled_from([0.5, 4.0, 50.0]),
        "jerk": st.sampled_from([5.0, 80.0, 2000.0, np.inf]),
    }
)


@settings(max_examples=60, deadline=None)
@given(limits, st.integers(0, 2**31), st.sampled_from(["noise", "steps", "walk"]), st.booleans())
def test_all_bounds_hold_for_any_stream(bounds, seed, kind, stops):
    rng = np.random.default_rng(seed)
    shaper = build(**bounds)
    start = rng.uniform(-1, 1, 3)
    shaper.reset(start)
    if kind == "noise":
        targets = rng.uniform(-3, 3, (150, 3))
    elif kind == "steps":
        targets = np.repeat(rng.uniform(-1.5, 1.5, (10, 3)), 15, axis=0)
    else:
        targets = start + np.cumsum(rng.normal(0, 0.1, (150, 3)), axis=0)
    out = [start]
    for target in targets:
        out.append(shaper.stop() if stops and rng.random() < 0.2 else shaper.follow(target))
    out = np.array(out)
    v, a, j = differences(out)
    assert out.max() <= 1.0 and out.min() >= -1.0
    assert np.abs(v).max() <= bounds["velocity"] * (1 + 1e-6)
    assert np.abs(a).max() <= bounds["acceleration"] * (1 + 1e-6)
    assert np.abs(j).max() <= bounds["jerk"] * (1 + 1e-6) + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2.0, 20.0]), st.sampled_from([30.0, 400.0, np.inf]))
def test_relative_entries_bound_value_rate_and_its_rate(seed, acceleration, jerk):
    rng = np.random.default_rng(seed)
    shaper = build(acceleration=acceleration, jerk=jerk, first_order=True)
    shaper.reset(np.zeros(3))
    out = np.array([np.zeros(3)] + [shaper.follow(t) for t in rng.uniform(-4, 4, (120, 3))])
    v, a, _ = differences(out)
    assert np.abs(out).max() <= 1.0
    assert np.abs(v).max() <= acceleration * (1 + 1e-6)
    assert np.abs(a).max() <= jerk * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("jerk", [20.0, 300.0, np.inf])
def test_reaches_a_step_without_overshoot_and_rests(jerk):
    shaper = build(velocity=1.0, acceleration=4.0, jerk=jerk)
    shaper.reset(np.array([-0.8, 0.0, 0.5]))
    target = np.array([0.8, 0.1, 0.49])
    out = np.array([shaper.follow(target) for _ in range(250)])
    np.testing.assert_allclose(out[-1], target, atol=1e-6)
    assert shaper.at_rest
    assert ((out - target) * np.sign(target - [-0.8, 0.0, 0.5])).max() < 0.02


def test_a_reachable_target_passes_through_exactly():
    shaper = build(velocity=2.0, acceleration=10.0, jerk=500.0)
    t = np.arange(100) * DT
    wave = 0.3 * (1 - np.cos(t))[:, None] * np.ones(3)
    shaper.reset(wave[0])
    np.testing.assert_allclose([shaper.follow(w) for w in wave], wave, atol=1e-9)


def test_without_dynamics_only_the_range_counts():
    shaper = build()
    rng = np.random.default_rng(0)
    for target in rng.uniform(-2, 2, (50, 3)):
        np.testing.assert_array_equal(shaper.follow(target), np.clip(target, -1, 1))


@settings(max_examples=50, deadline=None)
@given(st.floats(-50, 50), st.floats(0.01, 20))
def test_the_ramp_inverse_gives_the_asked_velocity_change(dv, q):
    a = float(ramp_acceleration(np.array([dv]), DT, np.array([q]))[0])
    total, level = 0.0, abs(a)
    while level > 0:
        total += level
        level -= q
    assert np.sign(a) * total * DT == pytest.approx(dv, rel=1e-9, abs=1e-9)


def test_a_stop_ends_at_rest():
    shaper = build(velocity=2.0, acceleration=5.0, jerk=100.0)
    shaper.reset(np.full(3, -0.9))
    for _ in range(20):
        shaper.follow(np.full(3, 0.9))
    assert np.abs(shaper.v).min() > 0.1
    ticks = 0
    while not shaper.at_rest:
        shaper.stop()
        ticks += 1
        assert ticks < 100


@pytest.mark.parametrize(("velocity", "acceleration", "jerk"), [(1.0, 4.0, 80.0), (0.5, 2.0, 10.0)])
def test_a_stop_takes_hardly_longer_than_the_time_optimal_one(velocity, acceleration, jerk):
    """Oracle: ruckig's time-optimal stop from the same velocity and acceleration in continuous time."""
    ruckig = pytest.importorskip("ruckig", reason="extra 'shape'")
    shaper = build(low=-50, high=50, velocity=velocity, acceleration=acceleration, jerk=jerk, n=1)
    shaper.reset(np.zeros(1))
    for _ in range(30):
        shaper.follow(np.array([40.0]))
    query = ruckig.InputParameter(1)
    query.control_interface = ruckig.ControlInterface.Velocity
    query.current_position, query.current_velocity = [0.0], [float(shaper.v[0])]
    query.current_acceleration, query.target_velocity = [float(shaper.a[0])], [0.0]
    query.target_acceleration, query.max_acceleration, query.max_jerk = [0.0], [acceleration], [jerk]
    trajectory = ruckig.Trajectory(1)
    ruckig.Ruckig(1).calculate(query, trajectory)
    ticks = 0
    while not shaper.at_rest:
        shaper.stop()
        ticks += 1
    assert trajectory.duration / DT - 1 <= ticks <= trajectory.duration / DT + 4
