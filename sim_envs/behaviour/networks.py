"""A multilayer perceptron with its gradient and Adam in numpy: several times faster than torch at these sizes on one core."""

from __future__ import annotations

import numpy as np


class Network:
    """Two hidden layers of tanh. Parameters lie in one vector, `flat` float32 [P]; `weights` and `biases` are views of it."""

    def __init__(self, sizes: tuple[int, ...], rng: np.random.Generator, last_gain: float, extra: int = 0):
        """Orthogonal weights with gain sqrt 2, and `last_gain` in the last layer; `extra` more parameters in the tail."""
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self.flat = np.zeros(sum(a * b + a for a, b in shapes) + extra, np.float32)
        self.gradient = np.zeros_like(self.flat)
        self.weights, self.biases, self.tail = _views(self.flat, shapes)
        self._weights, self._biases, self.tail_gradient = _views(self.gradient, shapes)
        for i, weight in enumerate(self.weights):
            gain = np.sqrt(2.0) if i < len(self.weights) - 1 else last_gain
            weight[:] = gain * _orthogonal(weight.shape, rng)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs [B, out] of inputs [B, in]; remembers what `backward` needs."""
        self.inputs = [x]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            self.inputs.append(np.tanh(self.inputs[-1] @ weight.T + bias))
        return self.inputs[-1] @ self.weights[-1].T + self.biases[-1]

    def backward(self, slope: np.ndarray) -> None:
        """Fill `gradient` with that of the loss whose derivative by the outputs is `slope` [B, out]."""
        for i in reversed(range(len(self.weights))):
            np.matmul(slope.T, self.inputs[i], out=self._weights[i])
            np.sum(slope, 0, out=self._biases[i])
            if i:
                slope = (slope @ self.weights[i]) * (1.0 - self.inputs[i] ** 2)


class Adam:
    """Kingma and Ba (2015) on one vector, with the epsilon that is usual in PPO."""

    def __init__(self, size: int):
        self.first, self.second = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self.count = 0

    def step(self, flat: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        """Change `flat` in place."""
        self.count += 1
        self.first += 0.1 * (gradient - self.first)
        self.second += 0.001 * (gradient * gradient - self.second)
        scale = np.sqrt(1.0 - 0.999**self.count) / (1.0 - 0.9**self.count)
        flat -= np.float32(rate * scale) * self.first / (np.sqrt(self.second) + np.float32(1e-5))


def _views(
    flat: np.ndarray, shapes: list[tuple[int, int]]
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    weights, biases, at = [], [], 0
    for out, into in shapes:
        weights.append(flat[at : at + out * into].reshape(out, into))
        biases.append(flat[at + out * into : at + out * into + out])
        at += out * into + out
    return weights, biases, flat[at:]


def _orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    tall = rng.standard_normal((max(shape), min(shape)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))
    return q if shape[0] >= shape[1] else q.T
