"""Windows against a slow oracle that walks over steps one by one, and samplers against their definitions."""

import shutil

import numpy as np
import pytest
import torch
from data_cases import IMAGE_CONTRACT, episode, make_store
from hypothesis import given, settings
from hypothesis import strategies as st

from diffbot.data.samplers import PrioritizedSampler, ShuffledSampler, WeightedSampler
from diffbot.data.store import EpisodeStore
from diffbot.data.sum_tree import SumTree
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError, DataError

specs = st.builds(
    WindowSpec,
    observation_horizon=st.integers(1, 3),
    horizon=st.integers(1, 5),
    stride=st.integers(1, 3),
    every=st.integers(1, 2),
    pad_start=st.none() | st.integers(0, 2),
    pad_end=st.none() | st.integers(0, 3),
    pad_action=st.sampled_from(["repeat", "zero"]),
    observe_future=st.booleans(),
    rewards=st.just(True),
    terminals=st.just(True),
    returns=st.just(True),
    discount=st.sampled_from([1.0, 0.9]),
    next_observations=st.booleans(),
    goal=st.sampled_from(["future", "final"]),
    task=st.just("mode"),
)


def oracle(arrays: dict, spec: WindowSpec) -> list[dict]:
    """All windows of one episode by their definition."""
    length = len(arrays["action"])
    windows = []
    for t in range(length):
        seen = [t - (spec.observation_horizon - 1 - i) * spec.stride for i in range(spec.observation_steps)]
        acted = [t + j * spec.stride for j in range(spec.horizon)]
        after = [s + spec.horizon * spec.stride for s in seen[: spec.observation_horizon]]
        if spec.pad_start is not None and sum(s < 0 for s in seen) > spec.pad_start:
            continue
        if spec.pad_end is not None and sum(s >= length for s in acted) > spec.pad_end:
            continue
        if spec.next_observations and after[-1] >= length and not arrays["terminated"][-1]:
            continue

        def at(key, steps, length=length):
            return np.stack([arrays[key][min(max(s, 0), length - 1)] for s in steps])

        mask = np.array([s < length for s in acted])
        actions = at("action", acted)
        if spec.pad_action == "zero":
            actions[~mask] = 0
        weights = spec.discount ** np.arange(length - t)
        windows.append(
            {
                "t": t,
                "observations": {k: at(k, seen) for k in IMAGE_CONTRACT.observations},
                "actions": actions,
                "mask": mask,
                "rewards": np.where(mask, at("reward", acted), 0),
                "terminals": at("terminated", acted) & mask,
                "returns": (weights * arrays["reward"][t:].astype(np.float64)).sum(),
                "next": {k: at(k, after) for k in IMAGE_CONTRACT.observations},
            }
        )
    return windows[:: spec.every] if spec.pad_start is None else windows


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> EpisodeStore:
    return make_store(tmp_path_factory.mktemp("windows") / "s.zarr", [1, 6, 3, 11, 2], IMAGE_CONTRACT)


@settings(max_examples=60, deadline=None)
@given(spec=specs, chosen=st.sets(st.integers(0, 4), min_size=1), seed=st.integers(0, 9))
def test_windows_equal_the_slow_oracle(store, spec, chosen, seed):
    chosen = sorted(chosen)
    if spec.every > 1:  # starts count from the first allowed step
        spec = WindowSpec(**{**spec.__dict__, "pad_start": None, "pad_end": None, "next_observations": False})
    expected = [(e, w) for e in chosen for w in oracle(store.episode(e), spec)]
    if not expected:
        with pytest.raises(DataError, match="gives no window"):
            Windows(store, spec, episodes=chosen)
        return
    windows = Windows(store, spec, episodes=chosen)
    assert len(windows) == len(expected)
    order = np.random.default_rng(seed).permutation(len(expected))
    batch = windows.gather(order, generator=np.random.default_rng(seed))
    for row, number in enumerate(order):
        e, want = expected[number]
        for key, value in want["observations"].items():
            np.testing.assert_array_equal(batch.observations[key][row], value)
        np.testing.assert_array_equal(batch.actions[row], want["actions"])
        np.testing.assert_array_equal(batch.mask[row], want["mask"])
        np.testing.assert_array_equal(batch.rewards[row], want["rewards"])
        np.testing.assert_array_equal(batch.terminals[row], want["terminals"])
        np.testing.assert_allclose(batch.returns[row], want["returns"], rtol=1e-5, atol=1e-5)
        assert windows.tasks[batch.task[row]] == f"mode {e % 3}"
        if spec.next_observations:
            for key, value in want["next"].items():
                np.testing.assert_array_equal(batch.next_observations[key][row], value)
        else:
            assert batch.next_observations is None
        arrays, t = store.episode(e), want["t"]
        later = arrays["state"][min(t + 1, len(arrays["state"]) - 1) :]
        if spec.goal == "final":
            later = later[-1:]
        assert (later == batch.goals["state"][row].numpy()).all(1).any(), (
            "a goal is a later state of the episode"
        )


def test_the_newest_observation_and_the_first_action_are_of_the_same_step(store):
    batch = Windows(store, WindowSpec(observation_horizon=2, horizon=4)).gather([1 + 3])
    arrays = store.episode(1)
    np.testing.assert_array_equal(batch.observations["state"][0], arrays["state"][2:4])
    np.testing.assert_array_equal(batch.actions[0], arrays["action"][[3, 4, 5, 5]])
    assert batch.mask[0].tolist() == [True, True, True, False]


def test_every_pads_at_most_what_is_allowed(store):
    windows = Windows(
        store, WindowSpec(observation_horizon=2, horizon=4, pad_start=0, pad_end=0), episodes=[1, 3]
    )
    batch = windows.gather(np.arange(len(windows)))
    assert batch.mask.all() and len(windows) == (6 - 1 - 3) + (11 - 1 - 3)


def test_a_time_limit_is_not_a_terminal(store):
    """Episode 1 ends by a time limit: no terminal, and no window whose next observation does not exist."""
    spec = WindowSpec(horizon=1, terminals=True, rewards=True, next_observations=True)
    limited = Windows(store, spec, episodes=[1])
    assert len(limited) == 5 and not limited.gather(np.arange(5)).terminals.any()
    ended = Windows(store, spec, episodes=[2])
    assert ended.gather(np.arange(len(ended))).terminals.flatten().tolist() == [False, False, True]


def test_terminated_inside_an_episode_is_refused(tmp_path):
    store = EpisodeStore.create(tmp_path / "s.zarr", IMAGE_CONTRACT)
    arrays = episode(5, 0, IMAGE_CONTRACT)
    arrays["terminated"][2] = True
    store.append(arrays)
    with pytest.raises(DataError, match="True at step 2, which does not end an episode"):
        Windows(store, WindowSpec(terminals=True))


def test_hindsight_goals_are_uniform_over_the_rest_of_the_episode(store):
    windows = Windows(store, WindowSpec(horizon=1, goal="future"), episodes=[3])
    batch = windows.gather(np.full(5000, 4), generator=np.random.default_rng(0))
    states = store.episode(3)["state"]
    counts = [(batch.goals["state"].numpy() == states[s]).all(1).sum() for s in range(11)]
    assert counts[:5] == [0] * 5
    assert all(abs(c - 5000 / 6) < 5 * np.sqrt(5000 / 6) for c in counts[5:])
    with pytest.raises(DataError, match="generator"):
        windows.gather([0])


def test_gather_writes_into_given_memory(store):
    windows = Windows(store, WindowSpec(observation_horizon=2, horizon=4))
    for stride in (1, 2):
        windows = Windows(store, WindowSpec(observation_horizon=2, horizon=4, stride=stride))
        memory = windows.empty(3)
        addresses = [v.data_ptr() for _, v in memory.tensors()][:4]
        got = windows.gather([5, 0, 9], out=memory)
        assert [v.data_ptr() for _, v in got.tensors()][:4] == addresses
        for (name, a), (_, b) in zip(got.tensors(), windows.gather([5, 0, 9]).tensors(), strict=True):
            assert torch.equal(a, b), name


def test_what_cannot_be_gathered_is_an_error(store):
    windows = Windows(store, WindowSpec())
    for bad in ([-1], [len(windows)]):
        with pytest.raises(DataError, match="not within"):
            windows.gather(bad)
    with pytest.raises(DataError, match="Did you mean 'camera'"):
        Windows(store, WindowSpec(keys=("camra",)))
    with pytest.raises(DataError, match="twice"):
        Windows(store, WindowSpec(), episodes=[1, 1])
    with pytest.raises(ConfigError, match="horizon must be at least 1"):
        WindowSpec(horizon=0)


# -- samplers -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 40), batch=st.integers(1, 17), world=st.integers(1, 3), seed=st.integers(0, 5))
def test_each_epoch_draws_every_window_exactly_once_over_all_ranks(size, batch, world, seed):
    ranks = [ShuffledSampler(size, batch, seed, rank=r, world=world) for r in range(world)]
    rounds = 3 * size // (batch * world) + 1
    drawn = np.concatenate([next(r) for _ in range(rounds) for r in ranks])
    for start in range(0, len(drawn) - size + 1, size):
        assert sorted(drawn[start : start + size]) == list(range(size))


@pytest.mark.parametrize("kind", ["shuffled", "weighted", "prioritized"])
@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_resumed_sampler_continues_exactly(kind, at):
    def fresh():
        if kind == "shuffled":
            return ShuffledSampler(23, 5, 3)
        if kind == "weighted":
            return WeightedSampler(np.arange(1.0, 24.0), 5, 3)
        return PrioritizedSampler(23, 5, 3)

    straight, resumed = fresh(), fresh()
    for _ in range(at):
        drawn = next(straight)
        if kind == "prioritized":
            straight.update(drawn, drawn + 0.5)
    resumed.load_state_dict(straight.state_dict())
    for _ in range(12):
        np.testing.assert_array_equal(next(straight), next(resumed))
        assert straight.generator().integers(1 << 60) == resumed.generator().integers(1 << 60)
    other = ShuffledSampler(24, 5, 3)
    with pytest.raises(DataError, match="the sampler state has"):
        other.load_state_dict(straight.state_dict())


def test_weights_of_episodes_are_kept_whatever_their_length(store):
    windows = Windows(store, WindowSpec(horizon=1))
    sampler = windows.weighted_sampler(2000, 0, np.array([0.0, 1.0, 0.0, 3.0, 0.0]))
    episodes = windows.table.episode[np.concatenate([next(sampler) for _ in range(5)])]
    counts = np.bincount(episodes, minlength=5)
    assert counts[[0, 2, 4]].sum() == 0
    assert abs(counts[3] / 10000 - 0.75) < 0.02


def test_prioritized_draws_follow_priority_to_the_alpha():
    sampler = PrioritizedSampler(4, 1000, 0, alpha=0.5)
    sampler.update(np.arange(4), np.array([1.0, 4.0, 9.0, 16.0]))
    counts = np.bincount(np.concatenate([next(sampler) for _ in range(20)]), minlength=4) / 20000
    np.testing.assert_allclose(counts, np.array([1, 2, 3, 4]) / 10, atol=0.01)
    np.testing.assert_allclose(sampler.weights(np.array([0, 3]), 1.0), [1.0, 0.25])
    with pytest.raises(DataError, match="positive"):
        sampler.update(np.array([0]), np.array([0.0]))


@given(values=st.lists(st.floats(0, 1e3), min_size=1, max_size=33), data=st.data())
def test_the_sum_tree_equals_a_cumulative_sum(values, data):
    values = np.array(values)
    tree = SumTree(np.zeros(len(values)))
    tree.set(np.arange(len(values)), values)
    np.testing.assert_allclose(tree.total, values.sum())
    index = data.draw(st.integers(0, len(values) - 1))
    tree.set(np.array([index]), np.array([5.0]))
    values[index] = 5.0
    middles = np.cumsum(values) - values / 2
    inside = values > 1e-6
    np.testing.assert_array_equal(tree.find(middles[inside]), np.flatnonzero(inside))


def test_batches_larger_than_the_dataset_are_allowed(tmp_path):
    store = make_store(tmp_path / "s.zarr", [2])
    windows = Windows(store, WindowSpec(horizon=1))
    assert len(windows.gather(next(windows.sampler(7, 0)))) == 7
    shutil.rmtree(tmp_path / "s.zarr")
