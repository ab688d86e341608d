"""Recipes: what the files say, what a command may change, and the same data whatever the workers or interruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim_envs
from diffbot.cli.collect import run
from diffbot.cli.collect_config import CollectConfig
from diffbot.cli.collect_parts import FIRST_EVALUATION_SEED, Plan, parts_of
from diffbot.cli.collect_recipe import recipe_names, with_recipe
from diffbot.cli.main import main
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError
from sim_envs.recording import record_episode

MIXED = "pointmaze-umaze-mixed"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_a_task_its_qualities_and_its_own_place(name: str) -> None:
    config = with_recipe(CollectConfig(recipe=name))
    spec = sim_envs.spec(config.task)
    assert spec.expert
    assert set(config.mix or {config.quality: 1.0}) <= set(spec.qualities)
    assert Path(config.out) == Path("datasets") / f"{name}.zarr"
    amount = round((config.steps or config.episodes) * (config.fraction or 1.0))
    assert sum(p.size for p in parts_of(config.quality, config.mix, config.seed, amount)) == amount
    if config.steps:
        assert config.published and config.keep_failures and 0 < config.fraction <= 1


def test_the_command_decides_size_and_place_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = with_recipe(CollectConfig(recipe=MIXED, fraction=1.0))
    assert whole.fraction == 1.0 and whole.out == f"datasets/{MIXED}_1.zarr"
    assert with_recipe(CollectConfig(recipe=MIXED, fraction=1.0, out="x.zarr")).out == "x.zarr"
    for changed in ({"task": "pusht/state"}, {"quality": "poor"}, {"seed": 3}, {"env": {"reward": "dense"}}):
        with pytest.raises(ConfigError, match=f"decides {next(iter(changed))}"):
            with_recipe(CollectConfig(recipe=MIXED, **changed))
    assert main(["collect", "recipe=pointmaze-umaze-mixde"]) == 2
    assert f"Did you mean '{MIXED}'" in capsys.readouterr().err
    mine = tmp_path / "mine.yaml"
    mine.write_text("task: pusht/state\nepisode: 3\n")
    with pytest.raises(ConfigError, match="Did you mean 'episodes'"):
        with_recipe(CollectConfig(recipe=str(mine)))
    mine.write_text("task: pusht/state\nepisodes: 3\nout: x.zarr\n")
    assert with_recipe(CollectConfig(recipe=str(mine))).episodes == 3


@pytest.mark.parametrize("mix", [{"expert": 0.5, "poor": 0.0}, {"expert": 1.5, "poor": -0.5}])
def test_shares_that_are_no_shares_are_refused(mix: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        parts_of("expert", mix, 0, 100)


def fill(plan: Plan, lengths: np.ndarray, ahead: int, stop: int | None = None) -> list[int]:
    """Seeds that end in the dataset when `ahead` episodes are in flight and the writer dies after `stop` of them."""
    flight: list[int] = []
    kept: list[int] = []
    while not plan.full and len(kept) != stop:
        while len(flight) < ahead and (seed := next(plan, None)) is not None:
            flight.append(seed)
        seed = flight.pop(0)
        if plan.belongs(seed):
            kept.append(seed)
            plan.add(int(lengths[seed % len(lengths)]))
    return kept


@given(
    ahead=st.integers(1, 30),
    shares=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    size=st.integers(30, 600),
    in_steps=st.booleans(),
    cut=st.integers(0, 40),
    seed=st.integers(0, 2**16),
)
def test_a_plan_keeps_the_same_seeds_for_any_number_of_workers_and_any_interruption(
    ahead: int, shares: list[int], size: int, in_steps: bool, cut: int, seed: int
) -> None:
    lengths = np.random.default_rng(seed).integers(1, 20, 1009)
    mix = {f"q{i}": float(share) for i, share in enumerate(shares)}
    parts = parts_of("", mix, 7, size)
    assert parts[-1].stop <= FIRST_EVALUATION_SEED
    alone = fill(Plan(parts, in_steps), lengths, 1)
    first = fill(Plan(parts, in_steps), lengths, ahead, cut)
    rest = Plan(parts, in_steps)
    if first:
        rest.resume(np.array(first), lengths[np.array(first) % len(lengths)])
    assert first + fill(rest, lengths, ahead) == alone
    for part in parts:
        mine = [s for s in alone if part.first <= s < part.stop]
        amount = [int(lengths[s % len(lengths)]) if in_steps else 1 for s in mine]
        assert sum(amount[:-1]) < part.size <= sum(amount)


def test_a_mixed_dataset_is_what_the_four_experts_play_and_no_time_limit_terminates(tmp_path: Path) -> None:
    out = tmp_path / "mixed.zarr"
    for workers in ("1", "2"):  # the second continues nothing: the first has made it whole
        assert run(CollectConfig(recipe=MIXED, fraction=0.0016, out=str(out), workers=workers)) == 0
    store = EpisodeStore.open(out)
    assert store.provenance["recipe"] == MIXED and store.provenance["fraction"] == 0.0016
    assert store.provenance["published_steps"] == 1_000_000
    qualities = ["expert", "expert", "good", "good", "okay", "okay", "poor", "poor"]
    assert list(store.meta("quality")) == qualities
    assert list(store.meta("seed")) == [0, 1, 25_000, 25_001, 50_000, 50_001, 75_000, 75_001]
    assert (store.episode_lengths == 300).all() and not store.load(["terminated"])["terminated"].any()
    env = sim_envs.make("pointmaze/umaze", new_goals=True)
    for i in (1, 6):
        seed = int(store.meta("seed")[i])
        expert = sim_envs.expert("pointmaze/umaze", seed=seed, quality=qualities[i])
        recording, episode = record_episode(env, expert, seed), store.episode(i)
        for key, value in {**recording.observations, "action": recording.actions}.items():
            assert np.array_equal(episode[key], value)
        goals = np.unique(episode["goal"], axis=0)
        assert len(goals) >= 1 + (episode["reward"].sum() > 0)
    env.close()


def test_mt10_episodes_carry_their_task() -> None:
    env = sim_envs.make("metaworld/mt10", terminate_on_success=False)
    recording = record_episode(env, _Still(), 4)
    index = int(recording.observations["task_one_hot"][0].argmax())
    assert recording.member == env.unwrapped.members[index]
    assert len(recording) == 500 and not recording.terminated.any()
    env.close()


class _Still:
    mode, version = "still", "1"

    def reset(self, env: object) -> None:
        """Nothing to draw."""

    def act(self, env: object, observation: dict[str, np.ndarray]) -> np.ndarray:
        """No motion."""
        return np.zeros(4, np.float32)
