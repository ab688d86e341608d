"""Updates per second of Diffusion-QL and IDQL beside the same updates written plainly (benchmarks/_plain_offline.py).

Both sides sample their batches, update all networks, clip, and move all targets. The plain side keeps its transitions
normalised in tensors and indexes them by random numbers; ours goes the whole way of the trainer: sampler, windows, transforms.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._plain_offline import (
    DoubleCritic,
    MishNet,
    PlainDiffusionQL,
    PlainIDQL,
    ResidualNet,
    Sampler,
    perceptron,
)
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.evaluation.bench import BenchResult
from diffbot.methods.critics import Ensemble
from diffbot.methods.offline import OfflinePolicy
from diffbot.methods.registry import build_config, method_by_name
from diffbot.training.data import TrainingData, load_data

SUMMARY = "updates/s of Diffusion-QL and IDQL beside the same updates written plainly"
METHODS = {"dql": "diffusion_ql", "idql": "idql"}
PRODUCTS = {
    "medium": "",
    "highest": "fp32.",
}  # `products` of our side -> prefix of its figures; medium is the default
STATE, ACTION = 17, 6  # Walker2d


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement; the networks are the papers'."""

    rounds: int = 7  # interleaved rounds
    steps: int = 20  # updates a round
    batch_size: int = 256
    threads: int = 1  # of PyTorch, for both sides
    check_steps: int = 100  # updates on the same batches and noise, whose losses are compared; 0: none
    seed: int = 0


def run(config: Config) -> BenchResult:
    """Measure both methods."""
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = make_data(Path(folder) / "walk.zarr", config.seed)
            for short, name in METHODS.items():
                measure(short, name, path, config, figures, rows)
    finally:
        torch.set_num_threads(threads)
    notes = (
        f"batch {config.batch_size}, {config.threads} thread(s), medians of {config.rounds} interleaved rounds of "
        f"{config.steps} updates. ratio: in CPU time of the process, which other work on the machine changes little; "
        f"wall_ratio: in wall time. max_rel_diff: of the losses over {config.check_steps} updates on equal batches, noise "
        "and initial weights, without dropout, each difference relative to the loss's mean size. Our matrix products are in "
        "bfloat16 with float32 sums, the default of these methods on CPUs that have it; fp32.*: in float32 as the plain side."
    )
    return BenchResult(figures, rows, [config.seed], notes)


def measure(
    short: str, name: str, path: Path, config: Config, figures: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    """Interleaved rounds of both sides, then the comparison of their losses."""
    policy, data = build(name, path, config.seed)
    plain, sampler = plain_of(policy), Sampler(arrays_of(policy, data), config.batch_size, config.seed)

    def theirs() -> None:
        for _ in range(config.steps):
            plain.update(sampler.batch())

    sides = {"plain": theirs, **{kind: ours(name, path, kind, config) for kind in PRODUCTS}}
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    wall: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(config.rounds + 1):
        for side, several in sides.items():
            begin, began = time.process_time(), time.perf_counter()
            several()
            if round_:  # the first warms up
                cpu[side].append((time.process_time() - begin) / config.steps)
                wall[side].append((time.perf_counter() - began) / config.steps)
    for side in sides:
        each, clock = float(np.median(cpu[side])), float(np.median(wall[side]))
        row = {"method": name, "side": side, "CPU ms/update": 1e3 * each, "updates/s": 1.0 / clock}
        rows.append(row | {"ratio": float(np.median(cpu["plain"])) / each})
        figures[f"{short}.{side}.cpu_ms"] = 1e3 * each
    for kind, prefix in PRODUCTS.items():
        figures[f"{short}.{prefix}ratio"] = float(np.median(cpu["plain"]) / np.median(cpu[kind]))
        figures[f"{short}.{prefix}wall_ratio"] = float(np.median(wall["plain"]) / np.median(wall[kind]))
        if config.check_steps:
            figures[f"{short}.{prefix}max_rel_diff"] = compare(name, path, kind, config)


def ours(name: str, path: Path, products: str, config: Config) -> Callable[[], None]:
    """Some updates of ours, as the trainer makes them."""
    policy, data = build(name, path, config.seed, products)
    numbers = data.train.sampler(config.batch_size, config.seed)
    policy.begin_training(seed=config.seed)

    def several() -> None:
        for _ in range(config.steps):
            policy.update(data.transforms.forward_batch(data.train.gather(next(numbers))))

    return several


def compare(name: str, path: Path, products: str, config: Config) -> float:
    """Largest difference of critic and actor losses on the same numbers, relative to the mean size of each."""
    policy, data = build(name, path, config.seed, products, dropout=0.0)
    plain = plain_of(policy)
    policy.begin_training(seed=config.seed)
    numbers = data.train.sampler(config.batch_size, config.seed)
    losses: list[list[float]] = []
    for _ in range(config.check_steps):
        batch = data.transforms.forward_batch(data.train.gather(next(numbers)))
        drawn = draws(name, policy, config.batch_size)
        metrics = policy.update(batch)
        t = policy.transitions(batch)
        alive = (t.discount / policy.config.discount)[:, None]
        theirs = plain.update((t.state, t.action, t.next_state, t.reward[:, None], alive), drawn)
        losses.append([float(metrics["critic_loss"]), float(metrics["loss"]), *theirs])
    table = np.array(losses)
    ours, other = table[:, :2], table[:, 2:]
    return float((np.abs(ours - other) / np.abs(other).mean(0)).max())


def draws(name: str, policy: Any, rows: int) -> dict[str, list[Tensor]]:
    """What the policy is about to draw, from a copy of its generator; steps are counted the plain way, 0 least noisy."""
    generator = torch.Generator()
    generator.set_state(policy.generator.get_state())
    chain, actions = policy.chain, policy.flat_action_dim
    drawn: dict[str, list[Tensor]] = {}
    if name == "diffusion_ql":
        drawn["next"] = list(chain.noise(rows, actions, generator))
    drawn["index"] = [chain.steps - 1 - chain.draw_index(rows, generator)]
    if name == "diffusion_ql":
        drawn["chain"] = list(chain.noise(rows, actions, generator))
    drawn["noise"] = [torch.randn(rows, actions, generator=generator)]
    if name == "diffusion_ql":
        drawn["member"] = [torch.randint(2, (), generator=generator)]
    return drawn


def build(
    name: str, path: Path, seed: int, products: str = "highest", dropout: float | None = None
) -> tuple[OfflinePolicy, TrainingData]:
    """A method with the paper's networks and a constant learning rate, and its data."""
    constant = {"schedule": "constant"}
    values: dict[str, Any] = {
        "optimizer": constant,
        "critic_optimizer": constant,
        "divergence": 0.0,
        "products": products,
    }
    if dropout is not None and name == "idql":
        values["network_options"] = {"dropout": dropout}
    entry = method_by_name(name)
    settings = build_config(name, values)
    data = load_data(path, entry.cls, settings, held_out=0.0, seed=seed)
    return entry.cls(settings, data.method_contract, seed=seed), data


def plain_of(policy: Any) -> Any:
    """The plain form with the same weights."""
    actor, critic = policy.model["actor"], policy.model["critic"]
    inputs = STATE + ACTION
    plain_actor: nn.Module
    if "value" not in policy.model:
        plain_actor = MishNet(STATE, ACTION, actor.config.width, actor.config.time_dim)
        pairs = list(zip(_linears(plain_actor), _linears(actor), strict=True))
        method: Any = PlainDiffusionQL(
            plain_actor,
            _critic(critic, inputs, nn.Mish),
            ACTION,
            policy.chain.steps,
            policy.config.optimizer.gradient_clip,
        )
    else:
        options = actor.config
        plain_actor = ResidualNet(
            STATE, ACTION, options.width, options.blocks, options.time_dim, options.dropout
        )
        plain_actor.load_state_dict(_renamed(actor))
        value = perceptron(STATE, critic.config.width, critic.config.depth, nn.ReLU)
        _copy(value, policy.model["value"], 0)
        pairs = []
        method = PlainIDQL(
            plain_actor, _critic(critic, inputs, nn.ReLU), value, policy.chain.steps, policy.config.level
        )
    with torch.no_grad():
        for mine, theirs in pairs:
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)
        method.average.load_state_dict(method.actor.state_dict())
    return method


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def _critic(ensemble: Ensemble, inputs: int, activation: type[nn.Module]) -> DoubleCritic:
    critic = DoubleCritic(inputs, ensemble.config.width, ensemble.config.depth, activation)
    _copy(critic.q1, ensemble, 0)
    _copy(critic.q2, ensemble, 1)
    return critic


@torch.no_grad()
def _copy(target: nn.Module, ensemble: Ensemble, member: int) -> None:
    for layer, linear in enumerate(_linears(target)):
        linear.weight.copy_(ensemble.weights[layer][member].T)
        linear.bias.copy_(ensemble.biases[layer][member, 0])


def _renamed(actor: nn.Module) -> dict[str, Tensor]:
    """Weights of `layer_norm_mlp` under the plain names; the buffers of its dropout have no counterpart."""
    return {
        name.replace(".layers.", ".net."): value
        for name, value in actor.state_dict().items()
        if not name.endswith((".seed", ".calls"))
    }


def arrays_of(policy: OfflinePolicy, data: TrainingData) -> dict[str, Tensor]:
    """All transitions, normalised, as the plain side keeps them."""
    t = policy.transitions(data.transforms.forward_batch(data.train.gather(np.arange(len(data.train)))))
    alive = (t.discount > 0).float()[:, None]
    return {
        "state": t.state, "action": t.action, "next_state": t.next_state, "reward": t.reward[:, None], "not_done": alive
    }  # fmt: skip


def make_data(path: Path, seed: int, episodes: int = 60, length: int = 200) -> Path:
    """Random smooth motions of Walker2d's sizes; half of the episodes terminate."""
    contract = Contract({"state": Field((STATE,))}, Action((ACTION,)), rate=125.0)
    store = EpisodeStore.create(path, contract)
    rng = np.random.default_rng(seed)
    with store.writer() as writer:
        for episode in range(episodes):
            state = np.cumsum(rng.normal(size=(length, STATE)), 0).astype(np.float32) / 10
            action = np.tanh(state[:, :ACTION] - state[:, 6 : 6 + ACTION]).astype(np.float32)
            ends = np.zeros(length, bool)
            ends[-1] = episode % 2 == 0
            arrays = {"state": state, "action": action, "reward": action.mean(1), "terminated": ends}
            writer.append(arrays, {"success": True})
    return path
