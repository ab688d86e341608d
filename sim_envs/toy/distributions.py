"""2-D distributions in [-1, 1]^2 with known support: modes, curves and a chequerboard, each with Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim_envs.errors import unknown


@dataclass(frozen=True)
class Distribution:
    """Noise-free support plus isotropic Gaussian noise.

    draw(rng, count) -> (points [count, 2] of the support, label of the mode [count]). support: points [M, 2] that cover
    the support (the centres of a mixture, a dense polyline of a curve). noise: standard deviation.
    """

    name: str
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
    support: np.ndarray
    noise: float

    def sample(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points [count, 2] and the label [count] of the mode each comes from."""
        points, labels = self.draw(rng, count)
        return points + self.noise * rng.standard_normal(points.shape), labels

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance [...] of points [..., 2] to the support."""
        gaps = np.linalg.norm(points[..., None, :] - self.support, axis=-1)
        return gaps.min(-1)


def mixture(name: str, centres: np.ndarray, noise: float) -> Distribution:
    """Equal Gaussians at `centres` [K, 2]; the label is the index of the centre."""

    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(len(centres), size=count)
        return centres[labels], labels

    return Distribution(name, draw, centres, noise)


def curves(name: str, lines: list[np.ndarray], noise: float) -> Distribution:
    """Uniform along polylines [N, 2], chosen by their length; the label is the index of the line."""
    lengths = np.array([np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines])

    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.choice(len(lines), count, p=lengths / lengths.sum())
        points = np.empty((count, 2))
        for index, line in enumerate(lines):
            chosen = labels == index
            along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
            at = rng.uniform(0.0, along[-1], int(chosen.sum()))
            points[chosen] = np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], -1)
        return points, labels

    return Distribution(name, draw, np.concatenate(lines), noise)


def _chequerboard() -> Distribution:
    size, fields = 0.5, [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    corners = -1.0 + size * np.array(fields, dtype=np.float64)
    grid = (np.stack(np.meshgrid(*[np.arange(20)] * 2), -1).reshape(-1, 2) + 0.5) * size / 20

    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(len(corners), size=count)
        return corners[labels] + rng.uniform(0.0, size, (count, 2)), labels

    return Distribution("chequerboard", draw, (corners[:, None] + grid).reshape(-1, 2), 0.01)


def _circle(
    radius: float, start: float = 0.0, end: float = 2 * np.pi, centre: tuple[float, float] = (0, 0)
) -> np.ndarray:
    angle = np.linspace(start, end, 400)
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], -1)


def _ring_of(count: int, radius: float) -> np.ndarray:
    return _circle(radius)[:-1][np.round(np.arange(count) * 399 / count).astype(int)]


def _spiral(turns: float, phase: float = 0.0) -> np.ndarray:
    s = np.sqrt(np.linspace(0.04, 1.0, 800))
    angle = phase + 2 * np.pi * turns * s
    return 0.9 * s[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)


DISTRIBUTIONS = {
    distribution.name: distribution
    for distribution in (
        mixture("four-gaussians", np.array([[0.0, 0.8], [0.8, 0.0], [0.0, -0.8], [-0.8, 0.0]]), 0.05),
        mixture("eight-gaussians", _ring_of(8, 0.8), 0.05),
        mixture(
            "grid-gaussians", np.stack(np.meshgrid(*[np.linspace(-0.8, 0.8, 5)] * 2), -1).reshape(-1, 2), 0.03
        ),
        curves(
            "two-moons",
            [_circle(0.5, 0, np.pi, (-0.25, -0.1)), _circle(0.5, np.pi, 2 * np.pi, (0.25, 0.1))],
            0.04,
        ),
        curves("rings", [_circle(0.3), _circle(0.6), _circle(0.9)], 0.03),
        curves("swiss-roll", [_spiral(2.0)], 0.02),
        curves("pinwheel", [_spiral(0.4, 2 * np.pi * k / 5) for k in range(5)], 0.03),
        _chequerboard(),
    )
}


def distribution(name: str) -> Distribution:
    """The distribution by name. Raises SimEnvError."""
    if name not in DISTRIBUTIONS:
        raise unknown("distribution", name, DISTRIBUTIONS)
    return DISTRIBUTIONS[name]
