"""Training samples per second beside the usual loop, on equal weights, data and noise.

The usual loop: a Dataset of single windows, a DataLoader at its best worker count, plain networks (nn.Linear or nn.Conv1d on
[B, C, T], nn.GroupNorm, nn.Mish), AdamW, a Python loop over parameters for the average, fp32. Ours: `Windows.gather`, one
matrix product per convolution, Mish and its derivative in one go, fused AdamW, one fused average; with and without bf16.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks._stock_mlp import from_ours as from_our_mlp
from benchmarks._stock_unet import from_ours as from_our_unet
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.evaluation.bench import BenchResult
from diffbot.methods.imitation import ImitationPolicy
from diffbot.methods.protocol import LocalAccelerator
from diffbot.methods.registry import build_config, method_by_name
from diffbot.networks.mlp import MLP
from diffbot.networks.unet import UNet
from diffbot.training.data import TrainingData, load_data

SUMMARY = "training samples/s beside the usual loop (Dataset, DataLoader, Conv1d, AdamW, Python EMA)"

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"network": "mlp", "network_options": {"width": 512, "depth": 3}},
    "unet_small": {"network": "unet", "network_options": {"down_dims": [32, 64, 128]}},
    "large": {"network": "unet", "network_options": {"down_dims": [256, 512, 1024]}},
}


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement. The data are those of a 7-joint arm: observations 2 x 23, actions 16 x 7."""

    networks: tuple[str, ...] = ("mlp", "unet_small", "large")
    rounds: int = 6  # interleaved rounds
    steps: dict[str, int] = field(default_factory=lambda: {"mlp": 20, "unet_small": 8, "large": 2})  # a round
    workers: tuple[int, ...] = (0, 1, 2)  # worker counts of the DataLoader that are tried
    batch_size: int = 256
    # network: steps and batch size of its equal-loss curves; the large one is too slow for 500 steps
    curves: dict[str, list[int]] = field(
        default_factory=lambda: {"mlp": [500, 256], "unet_small": [500, 128], "large": [60, 16]}
    )
    seed: int = 0


class Bfloat16(LocalAccelerator):
    """One process with bf16 autocast."""

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16)


class ItemDataset(Dataset):
    """The usual way: normalised arrays in RAM, one window sliced and padded for each item."""

    def __init__(self, data: TrainingData) -> None:
        store, spec = data.store, data.train.spec
        raw = {k: torch.from_numpy(v) for k, v in store.load(("state", "action")).items()}
        self.arrays = {k: v.numpy() for k, v in data.transforms.forward(raw).items()}
        self.spec = spec
        chosen = data.train.episodes
        starts, ends = store.episode_starts[chosen], store.episode_ends[chosen]
        spans = zip(starts, ends, strict=True)
        self.index = [(t, int(s), int(e)) for s, e in spans for t in range(s, e)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        t, start, end = self.index[item]
        state, action = self.arrays["state"], self.arrays["action"]
        first, last = max(start, t - self.spec.observation_horizon + 1), min(end, t + self.spec.horizon)
        history = state[first : t + 1]
        history = np.concatenate(
            [np.repeat(history[:1], self.spec.observation_horizon - len(history), 0), history]
        )
        chunk = action[t:last]
        chunk = np.concatenate([chunk, np.repeat(chunk[-1:], self.spec.horizon - len(chunk), 0)])
        return {"state": torch.from_numpy(history), "action": torch.from_numpy(chunk)}


class UsualTrainer:
    """The usual loop around the same network."""

    def __init__(self, policy: ImitationPolicy, data: TrainingData, batch_size: int, seed: int) -> None:
        self.model = plain(policy.model["network"]).requires_grad_(True).train()
        self.average = copy.deepcopy(self.model)
        settings = policy.config.optimizer
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            settings.learning_rate,
            settings.betas,
            weight_decay=settings.weight_decay,
        )
        schedule = policy.schedule  # type: ignore[attr-defined]
        self.alphas = torch.cumprod(1.0 - schedule.betas(), 0).float()
        self.generator = torch.Generator().manual_seed(seed)
        self.dataset = ItemDataset(data)
        self.batch_size, self.steps, self.ema = batch_size, 0, policy.config.ema
        self.rate = settings.rate

    def update(self, batch: Mapping[str, Tensor]) -> Tensor:
        actions, condition = batch["action"], batch["state"].flatten(1)
        count = len(self.alphas)
        step = torch.randint(1, count + 1, (len(actions),), generator=self.generator) - 1
        noise = torch.randn(actions.shape, generator=self.generator)
        alpha = self.alphas[step].view(-1, 1, 1)
        noisy = alpha.sqrt() * actions + (1.0 - alpha).sqrt() * noise
        loss = F.mse_loss(self.model(noisy, (step + 1).float(), condition), noise)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.steps, 0.0)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        decay = self.ema.decay(self.steps)
        with torch.no_grad():
            for average, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
                average.mul_(decay)
                average.add_(weight.data, alpha=1.0 - decay)
        self.steps += 1
        return loss.detach()

    def loader(self, workers: int) -> Iterator[dict[str, Tensor]]:
        """Endless shuffled batches."""
        loader = DataLoader(
            self.dataset,
            self.batch_size,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(0),
        )
        while True:
            yield from loader


def run(config: Config) -> BenchResult:
    """Measure every network of the settings."""
    figures: dict[str, float | int | str | bool] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = make_data(Path(folder) / "arm.zarr", config.seed)
        for name in config.networks:
            _measure(name, path, config, figures, rows)
            if name in config.curves:
                for kind, value in curves(name, path, config.seed, *config.curves[name]).items():
                    figures[f"{name}.{kind}.rel_diff"] = value
    differences = [v for k, v in figures.items() if k.endswith("rel_diff") and isinstance(v, float)]
    if differences:
        figures["loss.max_rel_diff"] = max(differences)
    notes = (
        f"batch {config.batch_size}, {torch.get_num_threads()} threads, medians of {config.rounds} interleaved rounds. "
        "mlp.ratio and unet_small.ratio are those of the faster of fp32 and bf16. rel_diff: of the mean loss of the last fifth "
        f"of the curves (steps, batch) {dict(config.curves)}, on equal batches and noise."
    )
    return BenchResult(figures, rows, [config.seed], notes)


def _measure(
    name: str, path: Path, config: Config, figures: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    policy, data = build(name, path, config.seed)
    usual = UsualTrainer(policy, data, config.batch_size, config.seed)
    steps = config.steps.get(name, 5)
    best = min(config.workers, key=lambda count: _loop_time(usual, usual.loader(count), max(2, steps // 2)))
    batches = usual.loader(best)
    seed = config.seed
    ours = {"fp32": start(policy, LocalAccelerator(), seed), "bf16": start(policy, Bfloat16(), seed)}
    sampler = data.train.sampler(config.batch_size, config.seed)

    def our_steps(trained: ImitationPolicy) -> Callable[[], None]:
        def several() -> None:
            for _ in range(steps):
                batch = data.transforms.forward_batch(data.train.gather(next(sampler)))
                float(trained.update(batch)["loss"])

        return several

    def usual_steps() -> None:
        for _ in range(steps):
            float(usual.update(next(batches)))

    runs = {"usual": usual_steps, **{kind: our_steps(trained) for kind, trained in ours.items()}}
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    for round_ in range(config.rounds + 1):
        for kind, several in runs.items():
            begin = time.perf_counter()
            several()
            if round_:  # the first warms up
                seconds[kind].append((time.perf_counter() - begin) / steps)
    median = {kind: float(np.median(values)) for kind, values in seconds.items()}
    for kind, value in median.items():
        row = {"network": name, "loop": kind, "ms/step": 1e3 * value, "samples/s": config.batch_size / value}
        row |= {"ratio": median["usual"] / value, "workers": best if kind == "usual" else ""}
        rows.append(row)
    for kind in ours:
        figures[f"{name}.{kind}.ratio"] = median["usual"] / median[kind]
    if name != "large":
        figures[f"{name}.ratio"] = max(figures[f"{name}.{kind}.ratio"] for kind in ours)


def curves(name: str, path: Path, seed: int, steps: int, batch_size: int) -> dict[str, float]:
    """Relative difference of the losses of the usual loop and ours, on the same batches and noise."""
    policy, data = build(name, path, seed)
    usual = UsualTrainer(policy, data, batch_size, seed)
    ours = {"fp32": start(policy, LocalAccelerator(), seed), "bf16": start(policy, Bfloat16(), seed)}
    sampler = data.train.sampler(batch_size, seed)
    losses: dict[str, list[float]] = {"usual": [], **{kind: [] for kind in ours}}
    for _ in range(steps):
        batch = data.transforms.forward_batch(data.train.gather(next(sampler)))
        losses["usual"].append(
            float(usual.update({"state": batch.observations["state"], "action": batch.actions}))
        )
        for kind, trained in ours.items():
            losses[kind].append(float(trained.update(batch)["loss"]))
    mean = {kind: float(np.mean(values[-max(1, steps // 5) :])) for kind, values in losses.items()}
    return {kind: abs(mean[kind] / mean["usual"] - 1.0) for kind in ours}


def build(name: str, path: Path, seed: int) -> tuple[ImitationPolicy, TrainingData]:
    """A Diffusion Policy with this network, and its data."""
    values = {**NETWORKS[name], "optimizer": {"gradient_clip": 0.0, "schedule": "constant"}}
    entry = method_by_name("diffusion_policy")
    settings = build_config("diffusion_policy", values)
    data = load_data(path, entry.cls, settings, held_out=0.0, seed=seed)
    return entry.cls(settings, data.method_contract, seed=seed), data


def start(policy: ImitationPolicy, accelerator: LocalAccelerator, seed: int) -> ImitationPolicy:
    """A copy of the policy that is ready to train with the same noise as the usual loop."""
    trained = copy.deepcopy(policy)
    trained.begin_training(accelerator, seed)
    trained.generator.manual_seed(seed)
    return trained


def make_data(path: Path, seed: int, episodes: int = 100, length: int = 120) -> Path:
    """Smooth random motions."""
    contract = Contract({"state": Field((23,))}, Action((7,)), rate=20.0)
    store = EpisodeStore.create(path, contract)
    rng = np.random.default_rng(seed)
    with store.writer() as writer:
        for _ in range(episodes):
            state = np.cumsum(rng.normal(size=(length, 23)), 0).astype(np.float32) / 10
            action = np.tanh(state[:, :7] - state[:, 7:14]).astype(np.float32)
            writer.append({"state": state, "action": action}, {"success": True})
    return path


def _loop_time(usual: UsualTrainer, batches: Iterator[dict[str, Tensor]], steps: int) -> float:
    """Seconds of some steps of a copy, after the workers have started."""
    trainer = copy.copy(usual)
    trainer.model, trainer.average = copy.deepcopy(usual.model), copy.deepcopy(usual.average)
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), 1e-4)
    float(trainer.update(next(batches)))
    begin = time.perf_counter()
    for _ in range(steps):
        float(trainer.update(next(batches)))
    return time.perf_counter() - begin


def plain(net: nn.Module) -> nn.Module:
    """The same network as its users write it."""
    return from_our_mlp(net) if isinstance(net, MLP) else from_our_unet(cast(UNet, net))
