"""What a rollout records of an episode, on a real environment."""

from __future__ import annotations

import numpy as np
import pytest

import sim_envs
from diffbot.control import Chunk, Controller, ControlLoop
from diffbot.data.contract import Contract
from diffbot.evaluation.evaluate import summarize
from diffbot.evaluation.rollout import Episode, rollout


class PushStraight:
    """Drives the pusher from where it is towards the T and through it."""

    horizon = 8

    def __init__(self, period: float) -> None:
        self.period = period

    def reset(self, episode_seed, start=None):
        self.count = 0

    def observe(self, observation, time):
        self.time, self.at, self.block = time, observation["pusher_position"], observation["block_position"]
        return True

    def infer(self, prefix=None):
        self.count += 1
        way = (self.block - self.at) / max(np.linalg.norm(self.block - self.at), 1e-6)
        steps = self.at + 0.02 * np.arange(1, self.horizon + 1)[:, None] * way
        return Chunk(steps, self.time, self.period, id=self.count)


def test_coverage_is_the_largest_of_the_episode_and_steps_sum_up():
    env = sim_envs.make("pusht/state")
    contract = Contract.from_dict(env.unwrapped.contract())
    seen: list[float] = []
    step = env.step

    def watched(action):
        result = step(action)
        seen.append(result[4]["coverage"])
        return result

    env.step = watched
    loop = ControlLoop(PushStraight(1.0 / contract.rate), Controller(contract, action_horizon=8))
    episode = rollout(env, loop, 200001, horizon=60)
    env.close()
    assert len(seen) == episode.steps == 60
    assert episode.coverage == max(seen) > min(seen)
    assert episode.reward == pytest.approx(sum(min(c / 0.95, 1.0) for c in seen), rel=1e-6)


def test_summary_has_scores_only_where_the_task_gives_them():
    plain = summarize([Episode(1, reward=2.0, steps=3), Episode(0, reward=1.0, steps=3)])
    assert plain["return"] == 1.5 and plain["rewards"] == [1.0, 2.0] and "coverage" not in plain
    covered = summarize([Episode(1, coverage=0.9), Episode(0, coverage=0.4)])
    assert covered["coverage"] == pytest.approx(0.65) and covered["coverages"] == [0.4, 0.9]
