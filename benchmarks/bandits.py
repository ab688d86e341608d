"""Two-dimensional bandits (Wang et al. 2023, Sec. 4, Fig. 1): who finds every mode of the data, and who the best one.

The data are points of a mixture whose modes pay differently. Imitation should cover all modes; reinforcement should draw
from the mode that pays most, whose centre is known exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sim_envs
from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.evaluation.bench import BenchResult
from diffbot.methods.registry import build_config, method_by_name
from sim_envs.toy.env import REWARD_NOISE

SUMMARY = "2-D bandits: modes covered by imitation, distance to the optimum of reinforcement"
# Five steps, the default, fill the square between the four modes after as many updates.
CHAIN = {"diffusion_steps": 20}
SMALL = {"width": 64, "depth": 3, "residual": False, "time_dim": 16, "time_scale": 5.0}
RATES: dict[str, Any] = {"optimizer": {"learning_rate": 1e-3}, "critic_optimizer": {"learning_rate": 1e-3}}
CRITIC = {"critic": {"width": 64, "depth": 2, "activation": "mish"}}

# name in the table -> (method, settings, whether it learns from the rewards)
ARMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "BC": ("bc_mlp", {"width": 64}, False),
    "BC-GMM": ("bc_gmm", {"width": 64, "horizon": 1, "action_horizon": 1, "observation_horizon": 1}, False),
    # IDQL's behaviour is learned apart from its critic; a single candidate is a draw from it.
    "Diffusion-BC": (
        "idql",
        {"network": "mlp", "network_options": SMALL, **CHAIN, **CRITIC, **RATES, "candidates": 1},
        False,
    ),
    "TD3+BC": ("td3_bc", {"width": 64, **CRITIC, **RATES}, True),
    "IQL": ("iql", {"width": 64, **CRITIC, **RATES, "expectile": 0.9, "beta": 10.0}, True),
    "IDQL": (
        "idql",
        {
            "network": "mlp",
            "network_options": SMALL,
            **CHAIN,
            **CRITIC,
            **RATES,
            "level": 0.9,
            "selection": "greedy",
        },
        True,
    ),
    "Diffusion-QL": ("diffusion_ql", {"network_options": SMALL, **CHAIN, **CRITIC, **RATES}, True),
}


@dataclass(frozen=True)
class Config:
    """Sizes of the comparison."""

    tasks: tuple[str, ...] = ("toy/bandit", "toy/bandit-25")
    points: int = 10_000  # of the data; paper: 10000
    steps: int = 6000  # gradient steps of every method; paper: 1000 epochs
    batch_size: int = 256
    draws: int = 500  # actions of each policy
    seed: int = 0
    figure: str = ""  # where the picture goes, docs/figures/bandits.png; empty: nowhere


def run(config: Config) -> BenchResult:
    """Train every arm on every bandit."""
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    panels: list[tuple[str, np.ndarray, dict[str, np.ndarray], np.ndarray]] = []
    for task in config.tasks:
        env: Any = sim_envs.make(task).unwrapped
        points, rewards = data_of(env, config)
        drawn: dict[str, np.ndarray] = {}
        for name, (method, settings, learns) in ARMS.items():
            drawn[name] = train(env, method, settings, points, rewards, config)
            found = measure(env, drawn[name])
            short = f"{task.removeprefix('toy/')}.{name}"
            figures |= {f"{short}.{key}": value for key, value in found.items()}
            rows.append({"task": task, "policy": name, "learns from rewards": learns, **found})
        panels.append((task, points, drawn, env.shape.support[env.rewards.argmax()]))
    if config.figure:
        draw(panels, Path(config.figure))
    return BenchResult(
        figures,
        rows,
        [config.seed],
        "distance: mean to the centre of the best mode. best: share of actions within 3 sigma of it. modes: share of the "
        "modes that at least 1 % of the actions come within 3 sigma of. off: mean distance to the nearest centre.",
    )


def data_of(env: Any, config: Config) -> tuple[Tensor, Tensor]:
    """Points [N, 2] of all modes and their noisy rewards [N], as the task pays them."""
    rng = np.random.default_rng(config.seed)
    points, labels = env.shape.sample(rng, config.points)
    rewards = env.rewards[labels] + REWARD_NOISE * rng.standard_normal(config.points)
    clipped = np.clip(points, -1.0, 1.0)
    return torch.from_numpy(clipped).float(), torch.from_numpy(rewards).float()


def train(
    env: Any, method: str, settings: Mapping[str, Any], points: Tensor, rewards: Tensor, config: Config
) -> np.ndarray:
    """Actions [draws, 2] of a policy after `config.steps` updates."""
    contract = Contract.from_dict(env.contract())
    policy = method_by_name(method).cls(build_config(method, dict(settings)), contract, seed=config.seed)
    policy.begin_training(seed=config.seed)
    generator = torch.Generator().manual_seed(config.seed)

    def observe(rows: int) -> dict[str, Tensor]:
        return {"constant": torch.zeros(rows, 1, 1)}

    rows = config.batch_size
    for step in range(config.steps):
        index = torch.randint(len(points), (rows,), generator=generator)
        batch = Batch(
            observe(rows),
            points[index][:, None],
            torch.ones(rows, 1, dtype=torch.bool),
            rewards=rewards[index][:, None],
            terminals=torch.ones(rows, 1, dtype=torch.bool),
            next_observations=observe(rows),
        )
        policy.update(batch, progress=step / config.steps)
    with torch.no_grad():
        actions = policy.act(observe(config.draws), generator=generator)
    return np.asarray(actions[:, 0], np.float64)


def measure(env: Any, actions: np.ndarray) -> dict[str, float]:
    """Distances and shares; see the notes of the result."""
    centres, slack = env.shape.support, 3 * env.shape.noise
    gaps = np.linalg.norm(actions[:, None] - centres, axis=-1)
    to_best = gaps[:, env.rewards.argmax()]
    covered = (gaps <= slack).mean(0) >= 0.01
    return {
        "distance": float(to_best.mean()),
        "best": float((to_best <= slack).mean()),
        "modes": float(covered.mean()),
        "off": float(gaps.min(1).mean()),
    }


def draw(panels: list[tuple[str, np.ndarray, dict[str, np.ndarray], np.ndarray]], path: Path) -> None:
    """One row of pictures for each bandit: the data, then what each policy draws; the optimum is a star."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 1 + len(panels[0][2])
    figure, axes = plt.subplots(
        len(panels), columns, figsize=(1.9 * columns, 2.1 * len(panels)), squeeze=False, layout="constrained"
    )
    for line, (task, points, drawn, optimum) in zip(axes, panels, strict=True):
        shown = {f"data, {task.removeprefix('toy/')}": np.asarray(points)[:500], **drawn}
        for axis, (name, actions) in zip(line, shown.items(), strict=True):
            axis.scatter(actions[:, 0], actions[:, 1], s=3, alpha=0.4, color="tab:blue", linewidths=0)
            axis.plot(*optimum, marker="*", markersize=9, color="tab:red", fillstyle="none")
            axis.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=[], yticks=[], aspect="equal")
            axis.set_title(name, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
