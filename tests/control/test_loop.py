"""Asynchronous control in simulated time: when chunks are asked for, when they arrive, what is executed."""

import itertools

import numpy as np
import pytest
from control_cases import RATE, make_contract, observe
from hypothesis import given, settings
from hypothesis import strategies as st

from diffbot.control import Chunk, Controller, ControlLoop, DelayEstimate, Latency, PolicyRunner
from diffbot.errors import ConfigError

STEP = 1.0 / RATE


class Clock:
    """A policy that answers with the step numbers themselves, scaled into the action range."""

    period = STEP
    horizon = 16

    def reset(self, episode_seed, start=None):
        self.time, self.count, self.prefixes = None, 0, []

    def observe(self, observation, time):
        self.time = time
        return True

    def infer(self, prefix=None):
        self.prefixes.append(prefix)
        self.count += 1
        steps = (round(self.time / STEP) + np.arange(self.horizon)) / 1000.0
        return Chunk(steps[:, None] * np.ones((1, 4)), self.time, STEP, id=self.count)


def run(latency, stitcher="switch", steps=60, execute=8):
    contract = make_contract("absolute")
    loop = ControlLoop(Clock(), Controller(contract, stitcher=stitcher, action_horizon=execute), latency)
    loop.reset(3, position=np.zeros(4))
    return loop, [loop.tick(observe(contract, k), k * STEP) for k in range(steps)]


@pytest.mark.parametrize("stitcher", ["switch", "blend", "ensemble", "rtc"])
@pytest.mark.parametrize("delay", [0, 1, 4, 8])
def test_every_step_is_executed_once_at_its_time(delay, stitcher):
    """The first chunk from its own start, since nothing moved while it was computed; all others on their time line."""
    loop, commands = run(Latency.steps(delay, RATE), stitcher)
    for k, command in enumerate(commands):
        value = command.action[0] * 1000
        if k < delay:
            assert (command.status, command.reason) == ("hold", "no_chunk")
        elif k < delay + loop.runner.horizon and stitcher in ("blend", "ensemble"):
            assert k - delay - 1e-3 <= value <= k + 1e-3
        else:
            first = command.chunk_id == commands[delay].chunk_id
            assert value == pytest.approx(k - delay if first else k, abs=1e-3)
        assert command.status == "run" or k < delay
    starts = [round(c.start / STEP) for c in loop.chunks]
    assert set(np.diff(starts)) == {8}


def test_no_chunk_is_asked_for_before_the_first_one_moves_the_robot():
    loop, commands = run(Latency(observation=2 * STEP, inference=6 * STEP), "rtc", execute=2)
    first = loop.chunks[0]
    begins = next(k for k, c in enumerate(commands) if c.status == "run")
    assert begins == 8 and commands[begins].step_index == 0
    assert round(loop.chunks[1].start / STEP) == begins
    assert first.start == first.observed == 0.0  # what the policy made is not changed
    prefix = loop.runner.prefixes[1]
    np.testing.assert_allclose(prefix.actions[:8, 0] * 1000, np.arange(8), atol=1e-3)


def test_chunks_that_arrive_after_their_end_are_refused_and_the_robot_holds():
    loop, commands = run(Latency.steps(20, RATE))
    assert {c.reason for c in commands} == {"no_chunk"}
    assert loop.controller.counters["stale_chunk"] == len(loop.chunks) - 1 > 0


def test_prefix_uses_the_measured_delay():
    loop, _ = run(Latency.steps(3, RATE), "rtc")
    assert loop.runner.prefixes[0] is None
    for prefix in loop.runner.prefixes[1:]:
        assert (prefix.weights[:3] == 1).all() and prefix.weights[3] < 1


def test_observation_and_actuation_delays_shift_the_commands():
    _, commands = run(Latency(observation=2 * STEP, actuation=3 * STEP))
    executed = [c.time for c in commands]
    assert [c.reason for c in commands[:3]] == ["actuation_delay"] * 3
    np.testing.assert_allclose(executed[3:], np.arange(len(commands) - 3) * STEP)
    assert commands[3].reason == "no_chunk" and commands[5].status == "run"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 0.6), st.floats(0, 0.5))
def test_jitter_and_drops_are_reproducible_and_never_repeat_the_past(seed, drop, jitter):
    contract = make_contract("absolute")
    latency = Latency(observation=0.02, inference=0.12, jitter=jitter, drop=drop)
    streams = []
    for _ in range(2):
        loop = ControlLoop(Clock(), Controller(contract), latency, seed=seed)
        loop.reset(5, position=np.zeros(4))
        streams.append([loop.tick(observe(contract, k), k * STEP) for k in range(50)])
    for k, (a, b) in enumerate(zip(*streams, strict=True)):
        np.testing.assert_array_equal(a.action, b.action)
        if a.status == "run":
            assert a.action[0] * 1000 <= k + 1e-3
    for before, after in itertools.pairwise(streams[0]):
        if before.status == after.status == "run" and before.chunk_id == after.chunk_id:
            assert (after.action - before.action)[0] * 1000 == pytest.approx(1.0, abs=1e-3)


def test_a_real_policy_runs_in_the_loop(policy, contract):
    loop = ControlLoop(
        PolicyRunner(policy, seed=1), Controller(contract, stitcher="rtc"), Latency.steps(2, RATE)
    )
    loop.reset(0)
    commands = [loop.tick(observe(contract, k), k * STEP) for k in range(30)]
    assert {c.status for c in commands[2:]} <= {"run", "limited"}
    seams = [k for k in range(3, 30) if commands[k].chunk_id != commands[k - 1].chunk_id]
    assert len(seams) >= 2


def test_delay_estimate_leaves_out_cold_starts():
    estimate = DelayEstimate(STEP, cold=1, memory=3)
    for seconds in (5.0, 0.06, 0.11, 0.04):
        estimate.add(seconds)
    assert estimate.seconds == 0.11 and estimate.steps == 3
    for _ in range(3):
        estimate.add(2 * STEP)
    assert estimate.steps == 2


def test_latency_draws_have_the_asked_mean_and_spread():
    latency = Latency(inference=0.1, jitter=0.3, drop=0.25)
    rng = np.random.default_rng(0)
    draws = np.array([latency.sample("inference", rng) for _ in range(20000)])
    assert draws.mean() == pytest.approx(0.1, rel=0.01) and draws.std() == pytest.approx(0.03, rel=0.03)
    assert np.mean([latency.dropped(rng) for _ in range(20000)]) == pytest.approx(0.25, abs=0.01)
    with pytest.raises(ConfigError, match="Did you mean 'inference'"):
        Latency.from_dict({"inferense": 0.1})
    with pytest.raises(ConfigError, match=">= 0"):
        Latency(inference=-1.0)


def test_absolute_actions_without_a_known_position_begin_with_the_first_chunk():
    """There is no command that means "wait", so nothing but the policy's own commands goes out."""
    latency = Latency(observation=STEP, inference=3 * STEP, actuation=STEP)
    loop = ControlLoop(Clock(), Controller(make_contract("absolute")), latency)
    loop.reset(0)
    commands = [loop.tick({}, k * STEP) for k in range(40)]
    assert {c.status for c in commands} == {"run"}
    np.testing.assert_allclose([c.action[0] * 1000 for c in commands[1:]], np.arange(39), atol=1e-3)
