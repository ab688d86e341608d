"""Behaviour policies as plain arrays: read from safetensors, evaluated with numpy."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim_envs.errors import SimEnvError, unknown

FOLDER = Path(__file__).parent / "weights"
CLIP = 10.0  # of the normalised observation, as in training


@dataclass(frozen=True)
class GaussianPolicy:
    """A multilayer perceptron with tanh on normalised observations, and action noise that does not depend on the state.

    mean, scale: of the observation, float32 [D]. layers: (weight [out, in], bias [out]) float32. std: float32 [A].
    """

    mean: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    std: np.ndarray

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Mean action [..., A] of observations [..., D]; not clipped."""
        x = np.clip((observation.astype(np.float32) - self.mean) / self.scale, -CLIP, CLIP)
        for weight, bias in self.layers[:-1]:
            x = np.tanh(x @ weight.T + bias)
        weight, bias = self.layers[-1]
        return x @ weight.T + bias

    @property
    def version(self) -> str:
        """Changes whenever a weight changes."""
        parts = (self.mean, self.scale, self.std, *(array for layer in self.layers for array in layer))
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:12]

    def sample(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An action drawn as the learner drew it, cut to [-1, 1], float32 [A]."""
        noise = self.std * rng.standard_normal(self.std.shape, dtype=np.float32)
        return np.clip(self(observation) + noise, -1.0, 1.0)


@dataclass(frozen=True)
class Learner:
    """What one training left behind: its policies by quality, and what was measured of them.

    about: "steps" (environment steps of the training before each quality) and "scores" (of medium and expert).
    """

    policies: dict[str, GaussianPolicy]
    about: dict[str, dict[str, float]]

    def policy(self, quality: str) -> GaussianPolicy:
        """Raises SimEnvError for a quality that was not kept."""
        if quality not in self.policies:
            raise unknown("learned quality", quality, self.policies)
        return self.policies[quality]


def from_arrays(arrays: dict[str, np.ndarray]) -> GaussianPolicy:
    """A policy from "mean", "scale", "std" and "0.weight", "0.bias", "1.weight", ..."""
    count = sum(name.endswith(".weight") for name in arrays)
    values = {name: value.astype(np.float32) for name, value in arrays.items()}
    layers = tuple((values[f"{i}.weight"], values[f"{i}.bias"]) for i in range(count))
    return GaussianPolicy(values["mean"], values["scale"], layers, values["std"])


@functools.cache
def learner(name: str, folder: Path = FOLDER) -> Learner:
    """The committed policies of "hopper", "halfcheetah", ... Each array of the file has one row for each quality.

    Raises SimEnvError when there is no such file.
    """
    from safetensors import safe_open

    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise SimEnvError(f"no learned policies of '{name}' at {path}")
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["about"])
        stacked = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    qualities = list(about["steps"])
    policies = {
        quality: from_arrays({key: value[i] for key, value in stacked.items()})
        for i, quality in enumerate(qualities)
    }
    return Learner(policies, about)
