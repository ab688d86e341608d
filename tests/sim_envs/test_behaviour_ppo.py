"""The learner of the behaviour policies against torch's autograd and Adam, and closed forms of its parts."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch

from sim_envs.behaviour.networks import Adam, Network
from sim_envs.behaviour.ppo import PPO, RunningMoments
from sim_envs.behaviour.settings import Settings


class Line(gymnasium.Env):
    """A point on a line that is paid for being near zero; falls beyond 3."""

    observation_space = gymnasium.spaces.Box(-10, 10, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-2, 2)
        return np.array([self.x, 1.0]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.x += 0.3 * float(action[0]) + 0.05 * self.np_random.standard_normal()
        return np.array([self.x, 1.0]), 1.0 - abs(self.x), abs(self.x) > 3, False, {}


def as_torch(network: Network) -> list[torch.Tensor]:
    parameters = [p for pair in zip(network.weights, network.biases, strict=True) for p in pair]
    return [torch.tensor(p.copy(), requires_grad=True) for p in parameters]


def forward(parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for i in range(0, len(parameters) - 2, 2):
        x = torch.tanh(x @ parameters[i].T + parameters[i + 1])
    return x @ parameters[-2].T + parameters[-1]


def test_gradients_equal_torch_autograd_of_the_written_out_loss() -> None:
    settings = Settings("", medium=50.0, environments=2, rollout=64, hidden=(8, 8), ent_coef=0.01)
    learner = PPO(settings, [Line, Line], horizon=50)
    rng = np.random.default_rng(0)
    learner.actor.flat += 0.2 * rng.standard_normal(learner.actor.flat.size).astype(np.float32)
    x, action = rng.normal(size=(32, 2)).astype(np.float32), rng.normal(size=(32, 1)).astype(np.float32)
    old = rng.normal(-1.0, 0.3, 32).astype(np.float32)
    advantage, target = (rng.normal(size=32).astype(np.float32) for _ in range(2))
    actor, critic = as_torch(learner.actor), as_torch(learner.critic)
    log_std = torch.tensor(learner.actor.tail.copy(), requires_grad=True)
    policy = torch.distributions.Normal(forward(actor, torch.tensor(x)), log_std.exp())
    ratio = (policy.log_prob(torch.tensor(action)).sum(1) - torch.tensor(old)).exp()
    gain = torch.tensor((advantage - advantage.mean()) / (advantage.std() + 1e-8))
    clipped = ratio.clamp(1 - settings.clip_range, 1 + settings.clip_range)
    assert (ratio != clipped).any() and (ratio == clipped).any()
    surrogate = torch.minimum(ratio * gain, clipped * gain).mean()
    error = ((forward(critic, torch.tensor(x))[:, 0] - torch.tensor(target)) ** 2).mean()
    entropy = policy.entropy().sum(1).mean()
    (-surrogate - settings.ent_coef * entropy + settings.vf_coef * error).backward()
    learner._update(0.0, x, action, old, advantage, target)
    for network, theirs in ((learner.actor, [*actor, log_std]), (learner.critic, critic)):
        gradients = [p.grad.numpy().ravel() for p in theirs if p.grad is not None]
        np.testing.assert_allclose(network.gradient, np.concatenate(gradients), rtol=1e-3, atol=2e-6)


def test_adam_equals_torch_over_many_steps() -> None:
    rng = np.random.default_rng(0)
    mine, other = np.zeros(6, np.float32), torch.zeros(6, requires_grad=True)
    adam, reference = Adam(6), torch.optim.Adam([other], lr=0.01, eps=1e-5)
    for _ in range(50):
        gradient = rng.normal(size=6).astype(np.float32)
        adam.step(mine, gradient, 0.01)
        other.grad = torch.tensor(gradient)
        reference.step()
    # torch adds epsilon after the correction of the second moment, here it is added before
    np.testing.assert_allclose(mine, other.detach().numpy(), rtol=1e-2, atol=1e-4)


def test_running_moments_are_those_of_everything_seen() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(3.0, 2.0, (n, 4)) for n in (3, 50, 1, 700)]
    moments = RunningMoments(4)
    for batch in batches:
        moments.update(batch)
    whole = np.concatenate(batches)
    np.testing.assert_allclose(moments.mean, whole.mean(0), rtol=1e-3)
    np.testing.assert_allclose(moments.variance, whole.var(0), rtol=1e-2)


def test_learning_is_reproducible_and_improves_the_return() -> None:
    settings = Settings(
        "", medium=50.0, environments=4, rollout=200, batch_size=50, hidden=(8, 8), steps=6_000
    )
    first, second = (PPO(settings, [Line] * 4, horizon=50, seed=3) for _ in range(2))
    returns = []
    for _ in range(30):
        first.iterate()
        returns.append(np.mean(first.ended))
        first.ended.clear()
    for _ in range(2):
        second.iterate()
    assert np.mean(returns[-3:]) > np.mean(returns[:3]) + 5, returns
    again = PPO(settings, [Line] * 4, horizon=50, seed=3)
    for _ in range(2):
        again.iterate()
    assert all(np.array_equal(second.weights()[key], again.weights()[key]) for key in again.weights())


def test_a_time_limit_is_bootstrapped_and_a_fall_is_not() -> None:
    """With a critic that says 5 everywhere and no rewards, targets are gamma * 5 at a time limit and 0 at a fall."""

    class Idle(Line):
        falls = False

        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
            return np.array([0.0, 1.0]), 0.0, self.falls, False, {}

    class Falling(Idle):
        falls = True

    settings = Settings("", medium=0.0, environments=1, rollout=8, hidden=(8, 8), gae_lambda=0.0)
    for kind, expected in ((Idle, settings.gamma * 5.0), (Falling, 0.0)):
        learner = PPO(settings, [kind], horizon=1)
        learner.critic.flat[:] = 0.0
        learner.critic.biases[-1][:] = 5.0
        np.testing.assert_allclose(learner._rollout(8)[4], expected, rtol=1e-6)
