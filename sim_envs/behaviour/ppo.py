"""PPO (Schulman et al., 2017, with the details of Huang et al., "The 37 implementation details of PPO", 2022) in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sim_envs.behaviour.networks import Adam, Network
from sim_envs.behaviour.settings import Settings


class RunningMoments:
    """Mean and variance of everything seen so far (Chan et al., 1979)."""

    def __init__(self, size: int):
        self.mean, self.variance, self.count = np.zeros(size), np.ones(size), 1e-4

    def update(self, rows: np.ndarray) -> None:
        """Take in rows [B, size]."""
        mean, variance, n = rows.mean(0), rows.var(0), len(rows)
        total, delta = self.count + n, mean - self.mean
        self.mean = self.mean + delta * n / total
        self.variance = (
            self.count * self.variance + n * variance + delta**2 * self.count * n / total
        ) / total
        self.count = total

    @property
    def scale(self) -> np.ndarray:
        """Standard deviation [size]."""
        return np.sqrt(self.variance + 1e-8)


class PPO:
    """A learner on several copies of an environment with the time limit `horizon`.

    environments: functions that make an unwrapped gymnasium environment with a flat observation. Everything random comes
    from `seed`.
    """

    def __init__(
        self, settings: Settings, environments: list[Callable[[], Any]], horizon: int, seed: int = 0
    ):
        self.settings, self.horizon = settings, horizon
        self.rng = np.random.default_rng(seed)
        self.envs = [make() for make in environments]
        starts = [env.reset(seed=seed + i)[0] for i, env in enumerate(self.envs)]
        self.observation = np.stack(starts).astype(np.float64)
        self.age = np.zeros(len(self.envs), int)
        self.running = np.zeros(len(self.envs))  # returns of the episodes under way
        self.discounted = np.zeros(len(self.envs))
        self.ended: list[float] = []  # returns of ended episodes; the owner empties it
        inputs, outputs = self.observation.shape[1], self.envs[0].action_space.shape[0]
        self.actor = Network((inputs, *settings.hidden, outputs), self.rng, 0.01, extra=outputs)
        self.critic = Network((inputs, *settings.hidden, 1), self.rng, 1.0)
        self.actor.tail[:] = settings.log_std_init
        self.optimisers = Adam(self.actor.flat.size), Adam(self.critic.flat.size)
        self.seen, self.reward_scale = RunningMoments(inputs), RunningMoments(1)
        self.steps = 0

    def iterate(self) -> None:
        """One rollout of `settings.rollout` steps and its epochs of minibatches."""
        s = self.settings
        rollout = self._rollout(s.rollout // len(self.envs))
        rate = s.learning_rate * max(1.0 - self.steps / s.steps, 0.05)
        for _ in range(s.n_epochs):
            for rows in self.rng.permutation(s.rollout).reshape(-1, s.batch_size):
                self._update(rate, *(array[rows] for array in rollout))

    def weights(self) -> dict[str, np.ndarray]:
        """The actor as the arrays that `policy.from_arrays` reads."""
        arrays = {"mean": self.seen.mean, "scale": self.seen.scale, "std": np.exp(self.actor.tail)}
        for i, (weight, bias) in enumerate(zip(self.actor.weights, self.actor.biases, strict=True)):
            arrays[f"{i}.weight"], arrays[f"{i}.bias"] = weight, bias
        return {name: np.array(value, np.float32, order="C") for name, value in arrays.items()}

    def _normalise(self, observation: np.ndarray) -> np.ndarray:
        return np.clip((observation - self.seen.mean) / self.seen.scale, -10, 10).astype(np.float32)

    def _rollout(self, length: int) -> tuple[np.ndarray, ...]:
        """Flat arrays: observations [N, D], actions [N, A], log-probabilities, advantages and value targets [N]."""
        count, (inputs, outputs) = len(self.envs), (self.observation.shape[1], self.actor.tail.size)
        xs = np.empty((length, count, inputs), np.float32)
        actions = np.empty((length, count, outputs), np.float32)
        chances, values = (np.empty((length, count), np.float32) for _ in range(2))
        rewards, ends = (np.empty((length, count)) for _ in range(2))
        for t in range(length):
            self.seen.update(self.observation)
            xs[t] = x = self._normalise(self.observation)
            noise = self.rng.standard_normal((count, outputs), dtype=np.float32)
            actions[t] = self.actor(x) + np.exp(self.actor.tail) * noise
            values[t], chances[t] = self.critic(x)[:, 0], _log_chance(noise, self.actor.tail)
            rewards[t], ends[t] = self._step(actions[t])
        self.steps += length * count
        advantages = self._advantages(values, rewards, ends)
        flat = (xs.reshape(-1, inputs), actions.reshape(-1, outputs), chances.ravel())
        return *flat, advantages.ravel().astype(np.float32), (advantages + values).ravel().astype(np.float32)

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step of every environment. Returns scaled rewards [E], with the value of what lies behind a time limit, and
        whether an episode ended [E]."""
        reward, end = np.zeros(len(self.envs)), np.zeros(len(self.envs))
        late: list[tuple[int, np.ndarray]] = []
        for i, env in enumerate(self.envs):
            after, reward[i], fallen, _, _ = env.step(np.clip(actions[i], -1.0, 1.0))
            self.age[i] += 1
            end[i] = fallen or self.age[i] >= self.horizon
            self.running[i] += reward[i]
            if end[i]:
                if not fallen:
                    late.append((i, after))
                self.ended.append(self.running[i])
                after, _ = env.reset()
                self.running[i] = self.age[i] = 0
            self.observation[i] = after
        self.discounted = self.discounted * self.settings.gamma + reward
        self.reward_scale.update(self.discounted[:, None])
        self.discounted *= 1.0 - end
        reward = np.clip(reward / self.reward_scale.scale, -10, 10)
        for i, after in late:  # a time limit is not an end of the world
            reward[i] += self.settings.gamma * self.critic(self._normalise(after[None]))[0, 0]
        return reward, end

    def _advantages(self, values: np.ndarray, rewards: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Generalised advantages [T, E] (Schulman et al., 2016, equation 16)."""
        s = self.settings
        after = np.concatenate([values[1:], self.critic(self._normalise(self.observation)).T])
        errors = rewards + s.gamma * after * (1.0 - ends) - values
        advantages, following = np.empty_like(errors), np.zeros(len(self.envs))
        for t in reversed(range(len(errors))):
            following = errors[t] + s.gamma * s.gae_lambda * (1.0 - ends[t]) * following
            advantages[t] = following
        return advantages

    def _update(
        self,
        rate: float,
        x: np.ndarray,
        action: np.ndarray,
        old: np.ndarray,
        advantage: np.ndarray,
        target: np.ndarray,
    ) -> None:
        """One gradient step on the clipped objective (equation 7 there) and the squared value error."""
        s, n = self.settings, len(x)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        std = np.exp(self.actor.tail)
        z = (action - self.actor(x)) / std
        ratio = np.exp(_log_chance(z, self.actor.tail) - old)
        free = np.where(advantage > 0, ratio < 1 + s.clip_range, ratio > 1 - s.clip_range)
        slope = (-advantage * ratio * free / n)[:, None]  # of the loss by the log-probability
        self.actor.backward(slope * z / std)
        self.actor.tail_gradient[:] = (slope * (z * z - 1.0)).sum(0) - s.ent_coef
        value = self.critic(x)
        self.critic.backward(2.0 * s.vf_coef * (value - target[:, None]) / n)
        networks = self.actor, self.critic
        norm = np.sqrt(sum(float(net.gradient @ net.gradient) for net in networks))
        for net, optimiser in zip(networks, self.optimisers, strict=True):
            optimiser.step(
                net.flat, net.gradient * np.float32(min(1.0, s.max_grad_norm / (norm + 1e-6))), rate
            )


def _log_chance(z: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    """Log-density [B] of a normal action by its standardised value z [B, A]."""
    return -0.5 * (z * z).sum(1) - log_std.sum() - 0.5 * z.shape[1] * np.float32(np.log(2 * np.pi))
