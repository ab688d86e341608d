"""Diffusion-QL's and IDQL's chains against the general solvers, and what their policies draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from offline_cases import offline_batch, small
from torch import Tensor

from diffbot.data.contract import Action, Contract, Field
from diffbot.diffusion.constraints import Clip
from diffbot.diffusion.denoiser import Denoiser
from diffbot.diffusion.losses import diffusion_loss
from diffbot.diffusion.predictions import prediction_by_name
from diffbot.diffusion.solvers import ddpm
from diffbot.errors import ConfigError
from diffbot.methods.chain import PUBLISHED, Chain, require_hooks
from diffbot.methods.policies.diffusion_ql import DiffusionQL
from diffbot.methods.policies.idql import IDQL
from diffbot.networks import Condition, build, network_config

CONTRACT = Contract({"position": Field((2,)), "goal": Field((1,))}, Action((2,)), rate=10.0)
NETWORKS = ("mlp", "layer_norm_mlp")


class Drawn:
    """Stands for a generator's draws in the solver: the given noise, one after the other."""

    def __init__(self, noise: Tensor) -> None:
        self.left = list(noise)

    def __call__(self, x: Tensor, *_: object) -> Tensor:
        return self.left.pop(0)


def network(name: str) -> torch.nn.Module:
    options = {"width": 16} | ({"dropout": 0.0} if name == "layer_norm_mlp" else {})
    return build(network_config(name, options), (2,), 3, generator=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("steps", [1, 5])
def test_a_chain_is_the_ddpm_solver(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, chain = network(name), Chain(steps)
    generator = torch.Generator().manual_seed(0)
    state, noise = torch.randn(6, 3, generator=generator), chain.noise(6, 2, generator)
    mine = chain.sample(net, chain.prepare(net, state), noise)
    drawn = Drawn(noise[1:])
    monkeypatch.setattr("diffbot.diffusion.solvers.run.noise_like", drawn)
    denoise = Denoiser(net, PUBLISHED, prediction_by_name("noise"), Condition(global_=state))
    times = torch.linspace(1.0, 0.0, steps + 1)
    theirs = ddpm(denoise, noise[0], times, generator=generator, constraint=Clip(-1.0, 1.0))
    assert not drawn.left
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


def test_the_published_betas() -> None:
    """beta_k = 1 - exp(-0.1/K - 9.9 (2k - 1) / (2 K^2)), as the published code writes them."""
    k = np.arange(1, 6)
    betas = 1 - np.exp(-0.1 / 5 - 0.5 * 9.9 * (2 * k - 1) / 25)
    alphas = np.sqrt(np.cumprod(1 - betas))[::-1]
    np.testing.assert_allclose([step.alpha for step in Chain(5).table], alphas, rtol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_is_the_denoising_loss(name: str) -> None:
    net, chain = network(name), Chain(5)
    generator = torch.Generator().manual_seed(0)
    state, action, noise = (torch.randn(9, d, generator=generator) for d in (3, 2, 2))
    index = chain.draw_index(9, generator)
    mine = chain.loss(net, chain.prepare(net, state), action, index, noise)
    theirs = diffusion_loss(
        net,
        PUBLISHED,
        prediction_by_name("noise"),
        action,
        Condition(global_=state),
        generator=generator,
        times=1.0 - index / 5.0,
        noise=noise,
    )
    torch.testing.assert_close(mine, theirs)


def test_the_gradient_passes_through_every_step_of_the_chain() -> None:
    """The derivative of the drawn action by one weight equals a finite difference in double precision."""
    chain = Chain(5)
    net = network("mlp").double()
    chain.times, chain._alphas, chain._sigmas = (
        x.double() for x in (chain.times, chain._alphas, chain._sigmas)
    )
    generator = torch.Generator().manual_seed(0)
    state, noise = torch.randn(4, 3, generator=generator).double(), chain.noise(4, 2, generator).double()
    weight = net.outer.bias  # type: ignore[union-attr]

    def value() -> Tensor:
        return chain.sample(net, chain.prepare(net, state), 0.2 * noise).sum()

    (slope,) = torch.autograd.grad(value(), weight)  # type: ignore[arg-type]
    step, numeric = 1e-5, []
    for entry in range(2):
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                weight[entry] += sign * step  # type: ignore[index, operator]
                values.append(float(value()))
                weight[entry] -= sign * step  # type: ignore[index, operator]
        numeric.append((values[0] - values[1]) / (2 * step))
    assert slope.abs().min() > 1e-3
    np.testing.assert_allclose(slope.numpy(), numeric, rtol=1e-4)


def test_networks_without_hooks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"network 'unet' cannot be used here.*method.network=mlp"):
        require_hooks(torch.nn.Linear(1, 1), "unet")


@pytest.mark.parametrize("backup", [False, True])
def test_targets_of_diffusion_ql_end_with_the_task(backup: bool) -> None:
    policy = small("diffusion_ql", CONTRACT, max_q_backup=backup, backup_samples=4)
    assert isinstance(policy, DiffusionQL)
    policy.begin_training()
    data = policy.transitions(offline_batch(policy))
    target = policy.target(data)
    ended = data.discount == 0
    assert ended.any() and not ended.all()
    assert torch.equal(target[ended], data.reward[ended])
    assert not torch.equal(target[~ended], data.reward[~ended])


def test_the_best_of_several_next_actions_is_worth_more() -> None:
    means = []
    for count in (1, 10):
        policy = small("diffusion_ql", CONTRACT, max_q_backup=True, backup_samples=count)
        assert isinstance(policy, DiffusionQL)
        policy.begin_training()
        data = policy.transitions(offline_batch(policy, 256))
        means.append(float(policy.target(data).mean()))
    assert means[1] > means[0]


def test_improvement_trains_the_actor_and_not_the_critic() -> None:
    policy = small("diffusion_ql", CONTRACT)
    assert isinstance(policy, DiffusionQL)
    policy.begin_training()
    loss, _ = policy.improvement(policy.transitions(offline_batch(policy)))
    loss.backward()
    assert all(p.grad is not None for p in policy.online("actor").parameters())
    assert all(p.grad is None for p in policy.online("critic").parameters())
    assert all(p.requires_grad for p in policy.online("critic").parameters())


def test_idql_draws_by_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Q - V known, the implicit policy's shares are level : 1 - level; the greedy one takes the best."""
    actions = torch.tensor([[-0.5, 0.0], [0.5, 0.0]])
    for selection in ("implicit", "greedy"):
        policy = small("idql", CONTRACT, candidates=2, level=0.8, selection=selection)
        assert isinstance(policy, IDQL)
        monkeypatch.setattr(
            policy.chain, "sample", lambda net, given, noise: actions.repeat(len(noise[0]) // 2, 1)
        )
        monkeypatch.setattr(policy.model["critic"], "forward", lambda s, a: a[:, 0].expand(2, -1))
        monkeypatch.setattr(policy.model["value"], "forward", lambda s: torch.zeros(1, len(s)))
        observation = {"position": torch.zeros(4000, 1, 2), "goal": torch.zeros(4000, 1, 1)}
        drawn = policy.act(observation, generator=torch.Generator().manual_seed(0))[:, 0, 0]
        share = float((drawn > 0).double().mean())
        assert share == pytest.approx(0.8 if selection == "implicit" else 1.0, abs=0.02)
