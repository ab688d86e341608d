"""What all policies promise that learn from rewards of a dataset, tried on each of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from offline_cases import SMALL, offline_batch, small, walk_store

from diffbot.control import PolicyRunner
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.merge import merge
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError, ContractError, DataError
from diffbot.methods.bundle import load_bundle
from diffbot.methods.offline import DivergedCriticError, OfflinePolicy, pick
from diffbot.methods.protocol import Inspects, Method
from diffbot.methods.registry import build_config, method_by_name
from diffbot.training.checkpoint import list_checkpoints
from diffbot.training.config import TrainingConfig
from diffbot.training.run import RunSpec, resume, start

NAMES = tuple(SMALL)
CONTRACT = Contract({"position": Field((2,)), "goal": Field((1,))}, Action((2,)), rate=10.0)


def windows_of(path: Path, name: str = "iql", store: Any = None, **settings: Any) -> Windows:
    store = walk_store(path) if store is None else store
    config = build_config(name, settings)
    return Windows(store, method_by_name(name).cls.window(config, store.contract))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("horizon", [1, 3])
def test_acts_in_shape_and_repeatably_within_the_range_of_the_data(name: str, horizon: int) -> None:
    policy = small(name, CONTRACT, horizon=horizon)
    assert isinstance(policy, Method) and isinstance(policy, Inspects)
    observation = offline_batch(policy).observations
    chunks = [policy.act(observation, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert chunks[0].shape == (16, horizon, 2)
    assert torch.equal(chunks[0], chunks[1])
    assert float(chunks[0].abs().max()) <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_training_state_continues_exactly_and_draws_from_its_own_generator(name: str) -> None:
    before = torch.random.get_rng_state()
    whole, half, other = (small(name, CONTRACT) for _ in range(3))
    for policy, seed in ((whole, 1), (half, 1), (other, 8)):
        policy.begin_training(seed=seed)
    for i in range(7):
        expected = whole.update(offline_batch(whole, seed=i), progress=i / 7)
    for i in range(3):
        half.update(offline_batch(half, seed=i), progress=i / 7)
    other.load_training_state(half.training_state())
    for i in range(3, 7):
        again = other.update(offline_batch(other, seed=i), progress=i / 7)
    assert {k: float(v) for k, v in expected.items()} == {k: float(v) for k, v in again.items()}
    ours, theirs = other.policy_state(), whole.policy_state()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator was used"


def test_a_termination_ends_the_value_and_a_time_limit_does_not(tmp_path: Path) -> None:
    windows = windows_of(tmp_path / "walk.zarr")
    # Odd episodes run into the limit: their last step has no successor and gives no transition.
    assert len(windows) == 3 * 20 + 3 * 19
    policy = small("iql", windows.store.contract, discount=0.9)
    data = policy.transitions(windows.gather(np.arange(len(windows))))
    last = windows.table.step == windows.store.episode_ends[windows.table.episode] - 1
    assert int(last.sum()) == 3
    assert data.discount[last].tolist() == [0.0] * 3
    assert torch.allclose(data.discount[~last], torch.tensor(0.9))
    # The time limit's last transition leads to the state at the limit, whose value counts.
    limit = windows.table.step == windows.store.episode_ends[windows.table.episode] - 2
    odd = limit & (windows.table.episode % 2 == 1)
    positions = windows.store.load(("position",))["position"]
    expected = positions[windows.store.episode_ends[[1, 3, 5]] - 1]
    np.testing.assert_allclose(data.next_state[odd].numpy(), expected)


def test_chunks_carry_discounted_rewards(tmp_path: Path) -> None:
    windows = windows_of(tmp_path / "walk.zarr", horizon=3)
    policy = small("iql", windows.store.contract, horizon=3, discount=0.5)
    batch = windows.gather(np.arange(len(windows)))
    data = policy.transitions(batch)
    reward = windows.store.load(("reward",))["reward"]
    ends = windows.store.episode_ends
    for row in (0, 17, 18, 19, 20, 30):
        step, end = int(windows.table.step[row]), int(ends[windows.table.episode[row]])
        inside = reward[step : min(step + 3, end)]
        assert float(data.reward[row]) == pytest.approx(
            float(inside @ 0.5 ** np.arange(len(inside))), rel=1e-5
        )
        terminal = windows.table.episode[row] % 2 == 0 and step + 3 >= end
        assert float(data.discount[row]) == (0.0 if terminal else 0.125)
    assert data.action.shape == (len(windows), 3)


def test_rewards_are_scaled_as_asked(tmp_path: Path) -> None:
    windows = windows_of(tmp_path / "walk.zarr")
    rewards = np.concatenate([windows.gather(np.arange(len(windows))).rewards.numpy()])  # type: ignore[union-attr]
    policies = {
        kind: small("iql", windows.store.contract, reward=kind)
        for kind in ("minus_one", "standardise", "return_range")
    }
    scaled = {}
    for kind, policy in policies.items():
        policy.inspect(windows)
        scaled[kind] = policy.transitions(windows.gather(np.arange(len(windows)))).reward.numpy()
        assert policy.scale.largest == pytest.approx(np.abs(scaled[kind]).max(), rel=1e-5)
    np.testing.assert_allclose(scaled["minus_one"], rewards[:, 0] - 1.0, atol=1e-6)
    assert (scaled["standardise"].mean(), scaled["standardise"].std()) == pytest.approx((0.0, 1.0), abs=1e-5)
    returns = [scaled["return_range"][windows.table.episode == e].sum() for e in range(6)]
    assert max(returns) - min(returns) == pytest.approx(1000.0, rel=1e-4)


def test_unfit_data_are_refused_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def inspect(store: Any) -> None:
        small("iql", store.contract).inspect(windows_of(tmp_path, store=store))

    few = walk_store(tmp_path / "few.zarr", episodes=1)
    with pytest.raises(DataError, match=r"'few.zarr' gives 20 transitions of 1 episodes.*at least 64"):
        inspect(few)
    with pytest.raises(
        DataError, match=r"action '0' of 'wide.zarr' is .* in episode 0, (below|above) the contract's -?0.5"
    ):
        inspect(walk_store(tmp_path / "wide.zarr", high=0.5))
    constant = walk_store(tmp_path / "constant.zarr")
    constant.array("reward")[:] = 2.0
    with pytest.raises(DataError, match=r"every reward of 'constant.zarr' is 2.*keep_failures=true"):
        inspect(constant)
    bad = walk_store(tmp_path / "bad.zarr")
    bad.array("reward")[45] = np.nan
    with pytest.raises(DataError, match=r"'rewards' of 'bad.zarr' is not finite in episode 2"):
        inspect(bad)
    large = walk_store(tmp_path / "large.zarr")
    large.array("reward")[:] = np.linspace(0.0, 5000.0, large.steps)
    with caplog.at_level(logging.WARNING, logger="diffbot.methods.rewards"):
        inspect(large)
    assert "method.reward=return_range" in caplog.text


@pytest.mark.parametrize("missing", ["reward", "terminated"])
def test_missing_arrays_are_named_before_training(tmp_path: Path, missing: str) -> None:
    keys = tuple(key for key in ("reward", "terminated") if key != missing)
    walk_store(tmp_path / "walk.zarr", keys=keys)
    with pytest.raises(DataError, match=f"no array '{missing}'"):
        start(run_spec(tmp_path, "iql"), tmp_path / "run")


def test_sources_with_different_contracts_are_not_mixed(tmp_path: Path) -> None:
    sources = [walk_store(tmp_path / "a.zarr"), walk_store(tmp_path / "b.zarr", high=2.0)]
    with pytest.raises(ContractError, match=r"a.zarr \(-1.0,\), b.zarr \(-2.0,\)"):
        merge(sources, tmp_path / "both.zarr")


def run_spec(folder: Path, name: str, steps: int = 40, **settings: Any) -> RunSpec:
    config = build_config(name, SMALL[name] | settings)
    training = TrainingConfig(
        steps=steps,
        batch_size=16,
        checkpoint_every=10,
        log_every=5,
        validation=0.0,
        tensorboard=False,
        threads=1,
    )
    return RunSpec(name, config, folder / "walk.zarr", training)


@pytest.mark.parametrize("name", ["diffusion_ql", "td3_bc"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    walk_store(tmp_path / "walk.zarr")
    constant = {"optimizer": {"schedule": "constant"}, "critic_optimizer": {"schedule": "constant"}}
    whole = start(run_spec(tmp_path, name, steps=20, **constant), tmp_path / "whole")
    start(run_spec(tmp_path, name, steps=10, **constant), tmp_path / "half")
    again = resume(tmp_path / "half", steps=20)
    assert again.outcome.metrics == whole.outcome.metrics
    assert again.outcome.metrics["critic_loss"] > 0
    # What was trained acts in the control loop, the same each time.
    observation = {"position": np.array([0.3], np.float32)}
    actions = []
    for _ in range(2):
        runner = PolicyRunner(load_bundle(again.bundle), seed=0)
        runner.reset(5)
        runner.observe(observation, 0.0)
        actions.append(runner.infer().actions)
    assert actions[0].shape == (1, 1) and np.array_equal(*actions)


@pytest.mark.parametrize("name", NAMES)
def test_a_diverging_critic_stops_the_run_with_its_checkpoints(tmp_path: Path, name: str) -> None:
    walk_store(tmp_path / "walk.zarr")
    settings = {"critic_optimizer": {"learning_rate": 30.0, "warmup": 0}, "check_every": 1}
    with pytest.raises(DivergedCriticError, match=r"\|Q\| reached .*discount 0.99 allow .*target_rate"):
        start(run_spec(tmp_path, name, **settings), tmp_path / "run")
    calm = start(run_spec(tmp_path, name, steps=10), tmp_path / "calm")
    method = load_bundle(calm.bundle).method
    assert isinstance(method, OfflinePolicy)
    assert len(list_checkpoints(tmp_path / "calm" / "checkpoints")) == 1


def test_a_diverged_critic_is_not_checkpointed() -> None:
    policy = small("iql", CONTRACT)
    policy.begin_training()
    policy.update(offline_batch(policy))
    policy._largest = torch.tensor(1e9)
    with pytest.raises(DivergedCriticError):
        policy.training_state()
    policy._largest = torch.tensor(float("nan"))
    with pytest.raises(DivergedCriticError, match="nan"):
        policy.check_divergence()


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("iql", {"discount": 1.0}, r"discount must be in \[0, 1\), got 1.0"),
        ("iql", {"reward": "clip"}, "reward 'clip' is not one of none, minus_one"),
        ("iql", {"target_rate": 0.0}, "target_rate"),
        ("idql", {"selection": "greed"}, "Did you mean 'greedy'"),
        ("idql", {"objective": "expectiles"}, "Did you mean 'expectile'"),
        ("diffusion_ql", {"candidates": 0}, "candidates must be at least 1, got 0"),
        ("td3_bc", {"alpha": -1.0}, "must not be negative"),
    ],
)
def test_bad_settings_are_named(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_config(name, settings)


def test_images_are_refused_by_name() -> None:
    contract = Contract(
        {"image": Field((8, 8, 3), dtype="uint8", kind="image"), "position": Field((2,))},
        Action((2,)),
        rate=10.0,
    )
    with pytest.raises(ConfigError, match=r"not from images \(image\).*method.keys=\[position\]"):
        small("iql", contract, keys=["image", "position"])


def test_a_missing_key_is_named() -> None:
    policy = small("iql", CONTRACT)
    with pytest.raises(ConfigError, match="lacks 'goal'"):
        policy.act({"position": torch.zeros(1, 1, 2)}, generator=torch.Generator())


def test_picking_follows_the_weights() -> None:
    candidates = torch.arange(3.0).reshape(1, 3, 1).expand(20000, 3, 1)
    weights = torch.tensor([[1.0, 0.0, 3.0]]).expand(20000, 3)
    chosen = pick(candidates, weights, torch.Generator().manual_seed(0))[:, 0]
    counts = torch.bincount(chosen.long(), minlength=3).double() / 20000
    torch.testing.assert_close(
        counts, torch.tensor([0.25, 0.0, 0.75], dtype=torch.float64), atol=0.01, rtol=0
    )
