"""Decision Diffuser: conditions and their composition, inverse dynamics, history, and what is refused."""

from __future__ import annotations

import pytest
import torch
from small_policies import make, make_batch

from diffbot.data.contract import Action, Contract, Field
from diffbot.diffusion.denoiser import DenoiseFunction
from diffbot.diffusion.schedule import coefficients
from diffbot.errors import ConfigError
from diffbot.methods.planners.decision_diffuser import DecisionDiffuser
from diffbot.methods.protocol import Prefix

SMALL = {"network_options": {"down_dims": [8, 16]}, "horizon": 8, "action_horizon": 4, "condition_dim": 8}
LABELS = {"label_key": "skill", "labels": ["left", "none", "right"]}


@pytest.fixture
def contract() -> Contract:
    return Contract({"position": Field((2,)), "velocity": Field((2,))}, Action((2,)), rate=10.0)


def planner(contract: Contract, **settings: object) -> DecisionDiffuser:
    method = make("decision_diffuser", contract, 0, **{**SMALL, **settings})
    assert isinstance(method, DecisionDiffuser)
    return method


def observe(policy: DecisionDiffuser, rows: int = 3) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    shapes = {key: policy.contract.field(key).shape for key in policy.keys}
    return {
        k: torch.rand(rows, policy.observation_horizon, *s, generator=g) * 2 - 1 for k, s in shapes.items()
    }


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_observed_history_is_exact(contract: Contract) -> None:
    policy = planner(contract, observation_horizon=5, stride=2, horizon=12, action_horizon=2)
    observation = observe(policy)
    plan = policy.plan(observation, generator=generator())
    assert policy.config.past == 2 and plan.trajectory.shape == (3, 8, 4)
    assert plan.states["position"].shape == (3, 6, 2)
    assert plan.actions.shape == (3, policy.horizon, 2) == (3, 10, 2)
    seen = torch.cat([observation["position"], observation["velocity"]], dim=-1)
    assert torch.equal(plan.trajectory[:, :3], seen[:, ::2])


def test_weight_0_is_unconditional_and_1_is_conditional(contract: Contract) -> None:
    policy = planner(contract, **LABELS)
    observation = observe(policy)

    def trajectory(conditions: dict[str, float]) -> torch.Tensor:
        return policy.plan(observation, generator=generator(), conditions=conditions).trajectory

    plain = trajectory({})
    assert torch.equal(trajectory({"return": 0.0, "left": 0.0}), plain)
    torch.testing.assert_close(trajectory({"return": 1e-9}), plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(trajectory({"left": 1.0}), trajectory({"left": 1.0 + 1e-9}), atol=1e-4, rtol=0)
    assert (trajectory({"left": 1.0}) - plain).abs().max() > 1e-4
    assert (trajectory({"left": 1.0}) - trajectory({"right": 1.0})).abs().max() > 1e-4


def test_composition_of_gaussians_is_their_product(contract: Contract) -> None:
    """q = N(0, I) and q(x|y) = N(m_y, I): the product q prod (q_y/q)^w is N(sum w m, I), also for negative w."""
    policy = planner(contract, **LABELS, temperature=1.0, clip=False, inference_steps=50)
    shape = (policy.config.length, policy.layout.channels)
    means = {"left": torch.zeros(shape), "right": torch.zeros(shape)}
    means["left"][4:, 0], means["right"][4:, 1] = 1.5, -1.0
    codes = {name: policy.single(name, 1).global_ for name in means}
    exact = {name: DenoiseFunction(gaussian(policy, mean), policy.schedule) for name, mean in means.items()}
    null = DenoiseFunction(gaussian(policy, torch.zeros(shape)), policy.schedule)

    def network(x: torch.Tensor, t: torch.Tensor, condition: object) -> torch.Tensor:
        """The exact noise prediction of whichever condition each row carries."""
        estimate = null(x, t)
        for name, code in codes.items():
            rows = (condition.global_ == code).all(dim=1)  # type: ignore[attr-defined, union-attr]
            estimate = torch.where(rows[:, None, None], exact[name](x, t), estimate)
        c = coefficients(policy.schedule, t, x)
        return (x - c.alpha * estimate) / c.sigma

    policy.network = network
    observation = {key: torch.zeros(4096, 1, 2) for key in policy.keys}
    for weights, expected in (
        ({"left": 1.0, "right": 1.0}, (1.5, -1.0)),
        ({"left": 0.5, "right": -1.0}, (0.75, 1.0)),
    ):
        x = policy.plan(observation, generator=generator(), conditions=weights).trajectory
        mean, std = x[:, 4:, :2].mean(dim=(0, 1)), x[:, 4:, :2].std(dim=0)
        torch.testing.assert_close(mean, torch.tensor(expected), atol=0.03, rtol=0)
        torch.testing.assert_close(std, torch.ones_like(std), atol=0.06, rtol=0)


def gaussian(policy: DecisionDiffuser, mean: torch.Tensor):  # type: ignore[no-untyped-def]
    """E[x0 | x_t] for x0 ~ N(mean, I)."""

    def function(x: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
        c = coefficients(policy.schedule, t, x)
        return mean + c.alpha / (c.alpha**2 + c.sigma**2) * (x - c.alpha * mean)

    return function


def test_low_temperature_lowers_the_spread(contract: Contract) -> None:
    spreads = []
    for temperature in (0.0, 0.5, 1.0):
        policy = planner(contract, temperature=temperature, clip=False, prediction="sample")
        policy.network = lambda x, t, condition: 0.5 * x
        rows = {key: torch.zeros(256, 1, 2) for key in policy.keys}
        plan = policy.plan(rows, generator=generator(), conditions={})
        spreads.append(float(plan.trajectory[:, 1:].std()))
    assert spreads[0] == 0.0 and spreads[0] < spreads[1] < spreads[2]
    assert spreads[1] == pytest.approx(0.5 * spreads[2], rel=1e-4)


def test_inverse_dynamics_recovers_a_linear_system() -> None:
    """s' = s + B a: the trained inverse model gives a = B^-1 (s' - s) on states of its plans."""
    contract = Contract({"position": Field((2,))}, Action((2,)), rate=10.0)
    settings = {"returns": False, "inverse_width": 64, "optimizer": {"learning_rate": 3e-3}}
    policy = planner(
        contract, **settings, horizon=4, action_horizon=1, network="mlp", network_options={"width": 16}
    )
    policy.begin_training(seed=0)
    g, matrix = generator(1), torch.tensor([[0.3, 0.1], [-0.1, 0.2]])
    for i in range(300):
        actions = torch.rand(64, 4, 2, generator=g) * 2 - 1
        first = torch.rand(64, 1, 2, generator=g) * 2 - 1
        moved = torch.cumsum(actions[:, :-1] @ matrix.T, dim=1)
        states = torch.cat([first, first + moved], dim=1)
        batch = make_batch(policy, size=64).replace(observations={"position": states}, actions=actions)
        policy.update(batch, progress=i / 300)
    plan = policy.plan({"position": torch.zeros(16, 1, 2)}, generator=generator())
    way = plan.states["position"]
    expected = (way[:, 1:] - way[:, :-1]) @ torch.linalg.inv(matrix).T
    inside = expected.abs().amax(-1) < 1.0
    assert inside.sum() > 5
    assert float((plan.actions - expected)[inside].abs().mean()) < 0.12


def test_conditions_are_learned(contract: Contract) -> None:
    """Labelled clips go left or right, unlabelled both ways; returns say how far. Plans follow labels, negation, and both at once."""
    one = Contract({"position": Field((1,))}, Action((1,)), rate=10.0)
    settings = {"optimizer": {"learning_rate": 3e-3}, "network": "mlp", "network_options": {"width": 128}}
    policy = planner(one, **LABELS, **settings, temperature=0.5, dropout=0.2)
    policy.begin_training(seed=0)
    g, time = generator(1), torch.linspace(0, 1, 8)[None, :, None]
    for i in range(400):
        side = torch.randint(0, 2, (64, 1, 1), generator=g) * 2.0 - 1.0
        far = torch.rand(64, 1, 1, generator=g)
        clip = side * (0.2 + 0.8 * far) * time
        named = torch.rand(64, generator=g) < 0.7
        task = torch.where(named, (side[:, 0, 0] > 0).long() * 2, 1)  # left, none, right
        batch = make_batch(policy, size=64).replace(observations={"position": clip}, actions=clip)
        policy.update(batch.replace(returns=far[:, 0, 0], task=task), progress=i / 400)
    rows = {"position": torch.zeros(64, 1, 1)}

    def ends(conditions: dict[str, float], target: float = 1.0) -> torch.Tensor:
        plan = policy.plan(rows, generator=generator(2), conditions=conditions, target_return=target)
        return plan.states["position"][:, -1, 0]

    assert (ends({"left": 1.5}) < 0).float().mean() > 0.95
    assert (ends({"right": 1.5}) > 0).float().mean() > 0.95
    assert (ends({"left": -1.5}) > 0).float().mean() > 0.9  # negation
    asked = {"return": 1.2, "right": 1.2}
    assert float(ends(asked).mean()) > float(ends(asked, 0.0).mean()) + 0.01


def test_prefix_is_blended(contract: Contract) -> None:
    policy = planner(contract)
    prefix = Prefix(torch.full((3, policy.horizon, 2), 0.3), torch.linspace(1, 0, policy.horizon))
    plain = policy.act(observe(policy), generator=generator())
    tied = policy.act(observe(policy), generator=generator(), prefix=prefix)
    assert torch.equal(tied[:, 0], prefix.actions[:, 0]) and torch.equal(tied[:, -1], plain[:, -1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action_horizon": 8}, r"action_horizon<=7"),
        ({"label_key": "skill"}, r"label_key and labels together"),
        ({**LABELS, "compose": {"lefft": 1.0}}, r"Did you mean 'left'"),
        ({**LABELS, "compose": {"none": 1.0}}, r"none"),
    ],
)
def test_settings_that_do_not_fit(contract: Contract, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planner(contract, **settings)


def test_labels_must_be_complete(contract: Contract) -> None:
    policy = planner(contract, label_key="skill", labels=["left", "right"])
    policy.begin_training(seed=0)
    batch = make_batch(policy)
    with pytest.raises(ConfigError, match=r"'skill' has more values than"):
        policy.update(batch.replace(returns=torch.rand(6), task=torch.tensor([0, 1, 2, 0, 1, 2])))
    with pytest.raises(ConfigError, match=r"Did you mean 'left'"):
        policy.plan(observe(policy), generator=generator(), conditions={"lfet": 1.0})
