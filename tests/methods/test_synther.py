"""SynthER on a linear system whose transitions are known: what is drawn obeys it, and stores are written safely."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffbot.cli import report, synthesize
from diffbot.cli.config import parse
from diffbot.cli.synthesize import draw, gather
from diffbot.cli.synthesize_config import SynthesizeConfig
from diffbot.control import PolicyRunner
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError, DataError
from diffbot.evaluation.synthesis import quality
from diffbot.methods.bundle import load_bundle
from diffbot.methods.learner import OptimizerConfig
from diffbot.methods.synthesizers.synther import Synther, SyntherConfig
from diffbot.training import run as runs
from diffbot.training.config import TrainingConfig

CONTRACT = Contract({"x": Field((2,))}, Action((1,), low=(-1.0,), high=(1.0,)), rate=10.0, task="none")
SMALL = {
    "network_options": {"width": 96, "depth": 3},
    "optimizer": OptimizerConfig(2e-3, 0.0, (0.9, 0.99), 50, "cosine", 1.0),
}


def linear_dataset(path: Path, episodes: int = 20, steps: int = 60) -> EpisodeStore:
    """x' = 0.9 x + (a, -a) / 2, r = x_0; the episode ends itself where x_0 > 1."""
    rng = np.random.default_rng(0)
    store = EpisodeStore.create(path, CONTRACT)
    for number in range(episodes):
        x, rows = rng.normal(0, 0.5, 2), []
        for _ in range(steps):
            a = rng.uniform(-1, 1)
            ended = bool(x[0] > 1.0)
            rows.append((x.copy(), [a], x[0], ended))
            if ended:
                break
            x = 0.9 * x + np.array([a, -a]) / 2
        values = [np.array(column) for column in zip(*rows, strict=True)]
        arrays = dict(zip(("x", "action", "reward", "terminated"), values, strict=True))
        arrays = {k: v.astype(bool if k == "terminated" else np.float32) for k, v in arrays.items()}
        store.append(arrays, {"seed": number})
    return EpisodeStore.open(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Dataset and bundle."""
    folder = tmp_path_factory.mktemp("synther")
    linear_dataset(folder / "linear.zarr")
    training = TrainingConfig(steps=500, threads=1, validation=0.0, tensorboard=False, checkpoint_every=500)
    config = SyntherConfig(**SMALL)  # type: ignore[arg-type]
    result = runs.start(runs.RunSpec("synther", config, folder / "linear.zarr", training, 0), folder / "run")
    return folder / "linear.zarr", result.bundle


def test_pack_is_inverted(tmp_path: Path) -> None:
    store = linear_dataset(tmp_path / "a.zarr", 4)
    method = Synther(SyntherConfig(**SMALL), CONTRACT)  # type: ignore[arg-type]
    windows = Windows(store, Synther.window(method.config, CONTRACT))
    method.inspect(windows)
    batch = windows.gather(np.arange(len(windows)))
    packed = method.vector.pack(batch, method.rewards)
    assert packed.shape == (len(windows), method.vector.dim) == (len(windows), 2 + 1 + 1 + 2 + 1)
    assert packed[:, 3].mean().abs() < 1e-5 and packed[:, 3].std(correction=0) == pytest.approx(1.0, abs=1e-4)
    back = method.vector.unpack(packed, method.rewards)
    assert torch.equal(back.actions, batch.actions)
    assert torch.equal(back.terminals, batch.terminals)  # type: ignore[arg-type]
    assert torch.allclose(back.rewards, batch.rewards, atol=1e-6)  # type: ignore[arg-type]
    for name in ("observations", "next_observations"):
        assert torch.equal(getattr(back, name)["x"], getattr(batch, name)["x"])


def test_samples_obey_the_system(trained: tuple[Path, Path]) -> None:
    dataset, bundle = trained
    rows, _ = draw(load_bundle(bundle), 2000, 5)
    following = 0.9 * rows["x"] + np.concatenate([rows["action"], -rows["action"]], 1) / 2
    alive = ~rows["terminated"]
    error = np.abs(rows["next_x"] - following)[alive]
    spread = np.abs(rows["next_x"] - rows["x"])[alive]
    assert np.median(error) < 0.4 * np.median(spread)  # permuting the rows gives about 1.4
    assert np.corrcoef(rows["reward"], rows["x"][:, 0])[0, 1] > 0.98
    real = gather(EpisodeStore.open(dataset), 10**6, 0)
    found = quality(real, rows, ("x",), seed=0)
    assert not found.problems(), found
    shuffled = {**rows, "next_x": rows["next_x"][::-1].copy()}
    assert quality(real, shuffled, ("x",), seed=0).correlation > 2 * found.correlation


def test_copies_and_noise_are_told_apart(trained: tuple[Path, Path]) -> None:
    real = gather(EpisodeStore.open(trained[0]), 10**6, 0)
    copies = {key: value + 1e-4 for key, value in real.items() if key != "terminated"} | {
        "terminated": real["terminated"]
    }
    assert any("repeat the data" in text for text in quality(real, copies, ("x",), seed=0).problems())
    rng = np.random.default_rng(0)
    noise = {k: v + (rng.normal(0, 3, v.shape) if v.dtype != bool else 0) for k, v in real.items()}
    assert len(quality(real, noise, ("x",), seed=0).problems()) >= 2


def test_interrupted_synthesis_goes_on_without_duplicates(trained: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, bundle = trained
    common = [f"dataset={dataset}", f"bundle={bundle}", "transitions=500", "block=120"]

    def command(out: Path) -> SynthesizeConfig:
        return parse(SynthesizeConfig, [*common, f"out={out}"])

    whole, part = tmp_path / "whole.zarr", tmp_path / "part.zarr"
    assert synthesize.run(command(whole)) == 0
    assert synthesize.run(command(part)) == 0
    # As a kill leaves it: two committed blocks and a torn third.
    store = EpisodeStore.open(part, "a")
    store.root["meta/episode_ends"].resize((2,))  # type: ignore[union-attr]
    assert synthesize.run(command(part)) == 0
    first, second = EpisodeStore.open(whole), EpisodeStore.open(part)
    assert first.independent and first.steps == second.steps == 500
    for key in first.keys:
        np.testing.assert_array_equal(first.read(key, 0, 500), second.read(key, 0, 500))
    assert first.provenance["synthetic"] is True and first.provenance["checks"]["passed"] is True
    with pytest.raises(DataError, match="differs in seed"):
        synthesize.run(parse(SynthesizeConfig, [*common, f"out={whole}", "seed=3"]))


def test_failing_samples_are_not_written_unless_forced(trained: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = trained[0]
    options = [
        f"dataset={dataset}", f"out={tmp_path / 'bad.zarr'}", f"run={tmp_path / 'run'}", "transitions=300",
        "training.steps=2", "training.tensorboard=false", "training.threads=1",
        "method.network_options={width: 32, depth: 2}",
    ]  # fmt: skip
    with pytest.raises(DataError, match="nothing is written"):
        synthesize.run(parse(SynthesizeConfig, options))
    assert not (tmp_path / "bad.zarr").exists()
    assert synthesize.run(parse(SynthesizeConfig, [*options, "force=true"])) == 0
    checks = EpisodeStore.open(tmp_path / "bad.zarr").provenance["checks"]
    assert checks["passed"] is False and checks["problems"]


def test_report_page(trained: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, bundle = trained
    out = tmp_path / "made.zarr"
    synthesize.run(parse(SynthesizeConfig, [f"dataset={dataset}", f"bundle={bundle}", f"out={out}"]))
    arguments = [f"real={dataset}", f"synthetic={out}", f"out={tmp_path / 'page'}", "samples=300"]
    assert report.run(parse(report.SynthesisReportConfig, arguments)) == 0
    figures = json.loads((tmp_path / "page/report.json").read_text())["figures"]
    assert 0 < figures["marginal"] < 0.35 and figures["coverage"] > 0.3
    assert "data:image/png" in (tmp_path / "page/report.html").read_text()


def test_wrong_uses_are_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="synther"):
        synthesize.run(parse(SynthesizeConfig, [f"dataset={trained[0]}", "out=x", "method=bc_mlp"]))
    with pytest.raises(ConfigError, match="churn"):
        SyntherConfig(churn=80.0)
    with pytest.raises(Exception, match="diffbot synthesize"):
        PolicyRunner(load_bundle(trained[1]), seed=0)
