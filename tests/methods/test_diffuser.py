"""Trajectories and Diffuser: layout, known entries, guidance, warm starts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_policies import make, make_batch

from diffbot.control import PolicyRunner
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, ContractError, DataError
from diffbot.methods.bundle import LoadedPolicy, load_bundle
from diffbot.methods.planners.diffuser import Diffuser
from diffbot.methods.protocol import Remembering
from diffbot.methods.registry import build_config
from diffbot.methods.return_model import ReturnScale
from diffbot.methods.trajectory import Layout, shifted, step_weights
from diffbot.training.config import TrainingConfig
from diffbot.training.run import RunSpec, start

SMALL = {"network_options": {"down_dims": [8, 16]}, "guide_dims": [8, 16], "horizon": 8, "action_horizon": 4}


@pytest.fixture
def contract() -> Contract:
    observations = {"position": Field((2,)), "velocity": Field((2,)), "goal": Field((2,))}
    return Contract(observations, Action((2,)), rate=10.0)


def planner(contract: Contract, seed: int = 0, **settings: object) -> Diffuser:
    method = make("diffuser", contract, seed, **{**SMALL, **settings})
    assert isinstance(method, Diffuser)
    return method


def observe(contract: Contract, rows: int = 3, steps: int = 1, seed: int = 5) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(rows, steps, *f.shape, generator=g) * 2 - 1
        for key, f in contract.observations.items()
    }


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_layout_keeps_every_action_and_every_strided_state(stride: int) -> None:
    layout = Layout({"a": 2, "b": 3}, action_dim=2, stride=stride)
    observations = {"a": torch.randn(5, 8, 2), "b": torch.randn(5, 8, 3)}
    actions = torch.randn(5, 8, 2)
    x = layout.pack(observations, actions)
    assert x.shape == (5, 8 // stride, layout.channels) == (5, 8 // stride, 2 * stride + 5)
    assert torch.equal(layout.unblock(x[..., : layout.block]), actions)
    for key, value in layout.unpack(x).items():
        assert torch.equal(value, observations[key][:, ::stride])


def test_shifted_plans_and_weights() -> None:
    plan = torch.arange(4.0).view(1, 4, 1)
    assert shifted(plan, 0).flatten().tolist() == [0, 1, 2, 3]
    assert shifted(plan, 2).flatten().tolist() == [2, 3, 3, 3]
    assert shifted(plan, 9).flatten().tolist() == [3, 3, 3, 3]
    weights = step_weights(4, 3, discount=0.5, first_action=10.0, block=1)
    assert weights[0].tolist() == [10.0, weights[0, 1], weights[0, 1]]
    assert float(weights[:, 2].mean()) == pytest.approx(1.0)
    assert float(weights[1, 2] / weights[0, 2]) == pytest.approx(0.5)


def test_return_scale_equals_that_of_all_returns() -> None:
    values = torch.randn(200, generator=generator()) * 3 + 7
    scale = ReturnScale()
    for part in values.split(64):
        scale.see(part)
    torch.testing.assert_close(
        scale.standardized(values), (values - values.mean()) / values.std(correction=0)
    )
    fraction = scale.fraction(values)
    assert float(fraction.min()) == 0.0 and float(fraction.max()) == 1.0


# -- known entries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmpp_2m"])
def test_known_states_are_exact(contract: Contract, solver: str) -> None:
    policy = planner(contract, solver=solver, constant=["goal"], inference_steps=6, samples=2)
    observation = observe(contract)
    observation["position"] *= 3.0  # outside of the data: clipping must not change what is known
    plan = policy.plan(observation, generator=generator())
    assert plan.states["position"].shape == (3, 8, 2) and plan.actions.shape == (3, 8, 2)
    for key in ("position", "velocity"):
        assert torch.equal(plan.states[key][:, 0], observation[key][:, 0])
    assert torch.equal(plan.states["goal"], observation["goal"].expand(-1, 8, -1))


def test_goal_is_the_last_state(contract: Contract) -> None:
    policy = planner(contract, goal={"goal": "position"})
    observation = observe(contract)
    plan = policy.plan(observation, generator=generator())
    assert set(plan.states) == {"position", "velocity"}
    assert torch.equal(plan.states["position"][:, -1], observation["goal"][:, 0])
    assert torch.equal(plan.states["position"][:, 0], observation["position"][:, 0])


def test_goal_is_measured_like_the_state(contract: Contract) -> None:
    config = build_config("diffuser", {"goal": {"goal": "position"}})
    group = Diffuser.transforms(config, contract)
    rng = np.random.default_rng(0)
    arrays = {"position": rng.uniform(-3, 5, (50, 2)), "velocity": rng.normal(size=(50, 2))}
    arrays |= {"goal": rng.uniform(0, 1, (50, 2)), "action": rng.normal(size=(50, 2))}
    group.fit({key: value.astype(np.float32) for key, value in arrays.items()})
    point = torch.tensor([[0.3, -2.0]])
    same = group.forward({"goal": point, "position": point})
    assert torch.equal(same["goal"], same["position"])


def test_loss_ignores_known_entries(contract: Contract) -> None:
    """With everything known but one entry, the loss is that entry's."""
    policy = planner(contract, guide=False, prediction="sample")
    batch = make_batch(policy)
    known = policy.known(policy.config.length)
    assert known[0, 2:].all() and not known[1:].any() and not known[0, :2].any()
    with torch.no_grad():
        policy.model["network"].head[-1].weight.zero_()
        policy.model["network"].head[-1].bias.zero_()
        loss, _ = policy.loss(policy.model, batch, generator())
    x0 = policy.clips(batch)  # a network that answers 0 errs by the clip itself
    weights = step_weights(8, 8, first_action=10.0, block=2)
    expected = ((x0.square() * weights) * ~known).sum() / (len(x0) * (~known).sum())
    torch.testing.assert_close(loss, expected)


# -- guidance ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["unet", "mlp"])
def trained(request: pytest.FixtureRequest) -> Diffuser:
    """Clips that rise or fall at random; the return is the mean height of the second half."""
    contract = Contract({"position": Field((1,))}, Action((1,)), rate=10.0)
    settings = {
        "optimizer": {"learning_rate": 3e-3, "warmup": 10},
        "network_options": {"down_dims": [16, 32]},
    }
    guide = {"guide_network": request.param, "guide_dims": [8, 16] if request.param == "unet" else [64, 64]}
    policy = planner(contract, **settings, **guide, discount=1.0, scale=0.3)
    policy.begin_training(seed=0)
    g = generator(1)
    time = torch.linspace(0, 1, 8)[None, :, None]
    for i in range(120):
        slope = torch.rand(32, 1, 1, generator=g) * 2 - 1
        batch = make_batch(policy, size=32)
        clip = slope * time
        batch = batch.replace(observations={"position": clip}, actions=slope.expand(-1, 8, -1))
        policy.update(batch.replace(returns=clip[:, 4:, 0].mean(1)), progress=i / 120)
    return policy


def test_guided_plans_have_higher_returns(trained: Diffuser) -> None:
    observation = {"position": torch.zeros(48, 1, 1)}
    heights, values = [], []
    for scale in (0.0, 0.3, 3.0):
        plan = trained.plan(observation, generator=generator(2), scale=scale)
        assert plan.values is not None
        heights.append(float(plan.states["position"][:, 4:].mean()))
        values.append(float(plan.values.mean()))
    assert values == sorted(values) and heights == sorted(heights)
    assert abs(heights[0]) < 0.25 < heights[2], heights


def test_best_of_several_plans(trained: Diffuser) -> None:
    observation = {"position": torch.zeros(32, 1, 1)}
    one = trained.plan(observation, generator=generator(3), scale=0.0)
    config = build_config("diffuser", {**vars(trained.config), "samples": 8})
    more = Diffuser(config, trained.contract)
    more.load_policy_state(trained.policy_state())
    many = more.plan(observation, generator=generator(3), scale=0.0)
    assert one.values is not None and many.values is not None
    assert many.actions.shape == one.actions.shape
    assert float(many.values.mean()) > float(one.values.mean()) + 0.3


# -- warm starts ------------------------------------------------------------------------------------------------------


def test_warm_start_from_level_0_is_the_shifted_plan(contract: Contract) -> None:
    policy = planner(contract, warm_start=0.0)
    assert isinstance(policy, Remembering)
    observation = observe(contract)
    actions, memory = policy.act_on(observation, None, 0, generator=generator())
    again, _ = policy.act_on(observation, memory, 0, generator=generator(9))
    assert torch.equal(again, actions)
    later, _ = policy.act_on(observation, memory, 3, generator=generator(9))
    assert torch.equal(later[:, :5], actions[:, 3:])


def test_warm_start_takes_fewer_steps_and_stays_near(trained: Diffuser) -> None:
    observation = {"position": torch.zeros(16, 1, 1)}
    config = build_config("diffuser", {**vars(trained.config), "warm_start": 0.3, "scale": 0.0})
    policy = Diffuser(config, trained.contract)
    policy.load_policy_state(trained.policy_state())
    calls = []
    policy.network = lambda *a: calls.append(1) or policy.model["network"](*a)
    first, memory = policy.act_on(observation, None, 0, generator=generator(1))
    assert len(calls) == 20
    warm, _ = policy.act_on(observation, memory, 0, generator=generator(2))
    assert len(calls) == 20 + 6
    cold = policy.act(observation, generator=generator(2))
    assert float((warm - first).abs().mean()) < 0.5 * float((cold - first).abs().mean())


def test_runner_keeps_the_memory_of_an_episode_only(contract: Contract) -> None:
    policy = planner(contract, warm_start=0.4)
    group = Diffuser.transforms(policy.config, contract)
    rng = np.random.default_rng(0)
    group.fit({k: rng.normal(size=(20, 2)).astype(np.float32) for k in (*contract.observations, "action")})
    loaded = LoadedPolicy(policy, group, contract, policy.config)
    runners = [PolicyRunner(loaded, seed=1, backend="eager") for _ in range(2)]
    runners[1].warm_up()
    frames = [{k: rng.normal(size=2).astype(np.float32) for k in contract.observations} for _ in range(5)]

    def episode(runner: PolicyRunner, seed: int) -> list[np.ndarray]:
        runner.reset(seed)
        chunks = []
        for i, frame in enumerate(frames):
            runner.observe(frame, 0.1 * i)
            chunks.append(runner.infer().actions)
        return chunks

    first = episode(runners[0], 3)
    other = episode(runners[0], 4)
    again = episode(runners[0], 3)
    for a, b, c in zip(first, again, episode(runners[1], 3), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    # A cold planner, given the same frames, agrees on the first chunk only.
    cold = planner(contract)
    cold.load_policy_state(policy.policy_state())
    plain = episode(
        PolicyRunner(LoadedPolicy(cold, group, contract, cold.config), seed=1, backend="eager"), 3
    )
    np.testing.assert_array_equal(plain[0], first[0])
    assert (plain[1] != first[1]).any()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"horizon": 10, "network_options": {"down_dims": [8, 16, 32]}},
            ConfigError,
            r"multiple of 4.*method\.horizon",
        ),
        ({"horizon": 6}, ConfigError, r"return model.*multiple of 4.*method\.horizon"),
        ({"horizon": 9, "stride": 2}, ConfigError, r"multiples of stride=2"),
        ({"goal": {"gaol": "position"}}, ConfigError, r"Did you mean 'goal'"),
        ({"constant": ["gaol"]}, ConfigError, r"Did you mean 'goal'"),
        ({"observation_horizon": 2}, ConfigError, r"decision_diffuser takes a history"),
        ({"samples": 4, "guide": False}, ConfigError, r"method\.guide=true"),
        ({"warm_start": 1.5}, ConfigError, r"warm_start"),
        ({"guide_network": "mpl"}, ConfigError, r"Did you mean 'mlp'"),
    ],
)
def test_settings_that_do_not_fit(
    contract: Contract, settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        planner(contract, **settings)


def test_images_are_not_planned() -> None:
    contract = Contract(
        {"camera": Field((8, 8, 3), "uint8", kind="image"), "q": Field((2,))}, Action((2,)), rate=10.0
    )
    with pytest.raises(ContractError, match=r"'camera' is an image.*keys=\[q\]"):
        planner(contract, keys=["camera"])


def point_dataset(path: Path, rewards: bool) -> Path:
    """A point that is driven to a goal: 6 episodes of 20 steps."""
    observations = {"position": Field((2,)), "goal": Field((2,))}
    store = EpisodeStore.create(path, Contract(observations, Action((2,)), rate=10.0, task="toy/point"))
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for _ in range(6):
            position, goal = rng.uniform(-1, 1, (2, 2))
            way = position + np.linspace(0, 1, 21)[:, None] * (goal - position)
            rows = {"position": way[:-1], "goal": np.tile(goal, (20, 1)), "action": np.diff(way, axis=0)}
            if rewards:
                rows["reward"] = -np.linalg.norm(way[1:] - goal, axis=1)
            writer.append({k: v.astype(np.float32) for k, v in rows.items()}, {"success": True})
    return path


@pytest.mark.parametrize("method", ["diffuser", "decision_diffuser"])
def test_planners_are_refused_before_training(tmp_path: Path, method: str) -> None:
    data = point_dataset(tmp_path / "plain.zarr", rewards=False)
    training = TrainingConfig(steps=4, batch_size=8, tensorboard=False)

    def begin(**settings: object) -> None:
        small = {"network_options": {"down_dims": [8, 16]}, "horizon": 8, "action_horizon": 4}
        start(RunSpec(method, build_config(method, {**small, **settings}), data, training), tmp_path / "run")

    with pytest.raises(DataError, match=r"no array 'reward'"):
        begin()
    without = {"guide": False} if method == "diffuser" else {"returns": False}
    with pytest.raises(ConfigError, match=r"longest has 20 steps.*method\.horizon=20"):
        begin(horizon=24, **without)
    with pytest.raises(ConfigError, match=r"multiple of 2.*method\.horizon"):
        begin(horizon=9, **without)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["diffuser", "decision_diffuser"])
def test_bundle_of_a_planner_plans_alike(tmp_path: Path, method: str) -> None:
    data = point_dataset(tmp_path / "data.zarr", rewards=True)
    options = {
        "network_options": {"down_dims": [8, 16]},
        "horizon": 8,
        "action_horizon": 4,
        "constant": ["goal"],
    }
    training = TrainingConfig(steps=4, batch_size=8, tensorboard=False, validation=0.0)
    bundle = start(RunSpec(method, build_config(method, options), data, training), tmp_path / "run").bundle
    first, second = (load_bundle(bundle) for _ in range(2))
    raw = {key: torch.rand(2, 1, 2, generator=generator()) for key in ("position", "goal")}
    chunks = [p.method.act(p.transforms.forward(raw), generator=generator(1)) for p in (first, second)]
    assert torch.equal(*chunks)
    assert chunks[0].shape == (2, first.method.horizon, 2)
