"""Each delay of the latency model has its own effect on a control loop, and no other."""

from dataclasses import fields

import numpy as np
import pytest
from control_cases import RATE, make_contract

from diffbot.cli.evaluate import LatencyConfig
from diffbot.control import Chunk, Controller, ControlLoop, Latency

STEP = 1.0 / RATE
TICKS = 200


class Stamped:
    """A policy whose actions tell the stamp of the observation that they were computed from; notes what it saw and when."""

    period = STEP
    horizon = 16

    def reset(self, episode_seed, start=None):
        self.count, self.seen = 0, []

    def observe(self, observation, time):
        self.seen.append(time)
        return True

    def infer(self, prefix=None):
        self.count += 1
        return Chunk(np.full((16, 4), self.seen[-1] / 100.0), self.seen[-1], STEP, id=self.count)


def run(latency, seed=0, execute=4):
    """(loop, per tick: age in steps of the observation behind the command and of the newest one seen)."""
    loop = ControlLoop(
        Stamped(), Controller(make_contract("absolute"), action_horizon=execute), latency, seed
    )
    loop.reset(0, position=np.zeros(4))
    commands, ages = [], []
    for k in range(TICKS):
        commands.append(loop.tick({}, k * STEP))
        ages.append(k - loop.runner.seen[-1] / STEP if loop.runner.seen else np.nan)
    acted = np.array([k - c.action[0] * 100 / STEP for k, c in enumerate(commands)])
    return loop, acted[50:].round(6), np.array(ages)[50:].round(6)


def test_without_latency_each_chunk_acts_at_once():
    loop, acted, ages = run(Latency())
    assert (ages == 0).all() and set(np.round(acted)) == {0, 1, 2, 3}
    assert len(loop.chunks) == TICKS / 4


@pytest.mark.parametrize("steps", [1, 3])
def test_observation_age_makes_what_the_policy_sees_older(steps):
    _, acted, ages = run(Latency(observation=steps * STEP))
    np.testing.assert_allclose(ages, steps, atol=1e-6)
    assert set(np.round(acted)) == {steps + i for i in range(4)}


@pytest.mark.parametrize("steps", [1, 3])
def test_inference_time_delays_the_chunk_but_not_the_observations(steps):
    _, acted, ages = run(Latency(inference=steps * STEP))
    np.testing.assert_allclose(ages, 0, atol=1e-6)
    assert set(np.round(acted)) == {steps + i for i in range(4)}


@pytest.mark.parametrize("steps", [1, 3])
def test_actuation_delays_the_command_alone(steps):
    loop, acted, ages = run(Latency(actuation=steps * STEP))
    np.testing.assert_allclose(ages, 0, atol=1e-6)
    assert set(np.round(acted)) == {steps + i for i in range(4)}
    assert loop.delay.steps == 0  # the policy cannot know


def test_jitter_spreads_the_delay_and_the_estimate_takes_the_largest():
    steady, spread = Latency(inference=2.5 * STEP), Latency(inference=2.5 * STEP, jitter=0.3)
    _, acted, _ = run(steady)
    loop, jittered, _ = run(spread, seed=1)
    assert jittered.std() > acted.std() and jittered.max() > acted.max()
    assert loop.delay.seconds > 2.5 * STEP
    np.testing.assert_array_equal(jittered, run(spread, seed=1)[1])
    assert (jittered != run(spread, seed=2)[1]).any()


def test_drops_lose_that_part_of_the_observations():
    loop, _, ages = run(Latency(drop=0.4), seed=3)
    assert len(loop.runner.seen) == pytest.approx(0.6 * TICKS, abs=4 * np.sqrt(0.24 * TICKS))
    assert ages.max() >= 2 and len(run(Latency())[0].runner.seen) == TICKS


def test_the_command_line_offers_every_delay():
    assert {f.name for f in fields(LatencyConfig)} == {f.name for f in fields(Latency)}
    assert vars(LatencyConfig()) == vars(Latency())
