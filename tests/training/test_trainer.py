"""The training loop: budgets, what a run folder holds, and what stops it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from point_dataset import make_dataset

from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, ContractError, DataError
from diffbot.methods.bundle import load_bundle
from diffbot.methods.registry import build_config
from diffbot.training.config import TrainingConfig
from diffbot.training.data import check_fit, split
from diffbot.training.metrics import MetricsLog, RunningMean, read_metrics
from diffbot.training.run import RunSpec, resume, start
from diffbot.training.trainer import NonFiniteLossError


def spec(
    dataset: Path, method: str = "bc_mlp", options: dict[str, object] | None = None, **training: object
) -> RunSpec:
    settings = {"steps": 40, "batch_size": 32, "log_every": 10, "checkpoint_every": 20, "tensorboard": False}
    settings |= training
    values = {"width": 128, "horizon": 4, "action_horizon": 2} if options is None else options
    return RunSpec(method, build_config(method, values), dataset, TrainingConfig(**settings))  # type: ignore[arg-type]


def test_learns_and_writes_the_run(dataset: Path, tmp_path: Path) -> None:
    result = start(spec(dataset, steps=200, validate_every=50, tensorboard=True), tmp_path / "run")
    train, validation = (read_metrics(tmp_path / "run", kind) for kind in ("train", "validation"))
    assert [line["step"] for line in train] == list(range(10, 201, 10))
    assert [line["step"] for line in validation] == [50, 100, 150, 200]
    assert train[-1]["loss"] < 0.2 * train[0]["loss"]
    assert validation[-1]["loss"] < 0.5 * validation[0]["loss"]
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    report = load_bundle(result.bundle).report
    assert report["steps"] == 200 and report["episodes"] == 12 and report["loss"] == train[-1]["loss"]
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        f"step_{step:08d}" for step in (160, 180, 200)
    ]


def test_policy_drives_to_the_goal(dataset: Path, tmp_path: Path) -> None:
    """The whole way: transforms, training, bundle and inverse transforms give the expert's action 0.3 (goal - position)."""
    loaded = load_bundle(start(spec(dataset, steps=400), tmp_path / "run").bundle)
    rng = torch.Generator().manual_seed(0)
    raw = {key: torch.rand(64, 1, 2, generator=rng) * 1.2 - 0.6 for key in ("position", "goal")}
    chunk = loaded.method.act(loaded.transforms.forward(raw), generator=rng)
    action = loaded.transforms.inverse({"action": chunk})["action"][:, 0]
    expected = 0.3 * (raw["goal"] - raw["position"])[:, 0]
    assert float((action - expected).abs().mean()) < 0.05


def test_minutes_are_a_budget(dataset: Path, tmp_path: Path) -> None:
    outcome = start(spec(dataset, steps=None, minutes=0.02), tmp_path / "run").outcome
    assert 1.2 <= outcome.seconds < 10 and outcome.step > 0


def test_a_run_is_not_overwritten(dataset: Path, tmp_path: Path) -> None:
    start(spec(dataset, steps=2), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"diffbot train resume="):
        start(spec(dataset, steps=2), tmp_path / "run")


def test_non_finite_loss_stops_and_names_the_batch(dataset: Path, tmp_path: Path) -> None:
    good = start(spec(dataset, steps=20), tmp_path / "run")
    kept = (good.bundle / "policy.safetensors").read_bytes()
    bad = spec(
        dataset, options={"width": 32, "optimizer": {"learning_rate": 1e30, "gradient_clip": 0.0}}, steps=20
    )
    with pytest.raises(
        NonFiniteLossError, match=r"(step \d+, on the batch of windows \[|weights).*last good checkpoint"
    ):
        start(bad, tmp_path / "bad")
    assert not list((tmp_path / "bad").glob("policy"))
    assert (good.bundle / "policy.safetensors").read_bytes() == kept


def test_non_finite_data_are_named(dataset: Path, tmp_path: Path) -> None:
    """A run whose data turn bad keeps its checkpoint; the message says which key is not finite."""
    start(spec(dataset, steps=20), tmp_path / "run")
    node = EpisodeStore.open(dataset, "a").array("goal")
    node[:] = np.where(np.arange(node.shape[0])[:, None] % 5 == 0, np.nan, node[:]).astype(np.float32)
    with pytest.raises(NonFiniteLossError, match=r"step 21.*not finite in: observations\.goal"):
        resume(tmp_path / "run", steps=40)
    assert load_bundle(tmp_path / "run").report["steps"] == 20


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"horizon": 31, "action_horizon": 1}, ConfigError, r"longest has 30 steps.*method\.horizon=30"),
        ({"keys": ["postion"]}, ContractError, r"Did you mean 'position'"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    dataset: Path, tmp_path: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        start(spec(dataset, options=options), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rewards_are_asked_for_before_training(dataset: Path) -> None:
    from diffbot.data.window_spec import WindowSpec

    with pytest.raises(DataError, match=r"learns from rewards.*no array 'reward'"):
        check_fit(EpisodeStore.open(dataset), WindowSpec(1, 4, returns=True), 12, dataset)


def test_unet_length_is_refused_with_the_fix(dataset: Path, tmp_path: Path) -> None:
    options: dict[str, object] = {
        "network": "unet",
        "horizon": 10,
        "network_options": {"down_dims": [16, 32, 64]},
    }
    with pytest.raises(ConfigError, match=r"10"):
        start(spec(dataset, "diffusion_policy", options), tmp_path / "run")


def test_settings_are_checked() -> None:
    for bad in (
        {"steps": 0},
        {"validation": 1.0},
        {"precision": "bf16"},
        {"steps": 5, "minutes": 1.0},
        {"devices": "x"},
    ):
        with pytest.raises(ConfigError):
            TrainingConfig(**bad)  # type: ignore[arg-type]


def test_split_is_a_partition() -> None:
    for count, share in ((1, 0.5), (2, 0.01), (12, 0.25), (100, 0.05)):
        train, held = split(count, share, seed=3)
        assert sorted([*train, *held]) == list(range(count)) and len(train) >= 1
        assert len(held) == (0 if count == 1 else max(1, round(share * count)))
    assert not np.array_equal(split(100, 0.1, 0)[1], split(100, 0.1, 1)[1])


def test_metrics_beyond_the_checkpoint_are_cut(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, tensorboard=False)
    for step in (10, 20, 30):
        log.write(step, {"loss": 1.0 / step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # torn by a kill
    MetricsLog(tmp_path, step=20, tensorboard=False).close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20]


def test_running_mean_state() -> None:
    mean = RunningMean()
    mean.add({"loss": 1.0, "norm": torch.tensor(3.0)})
    other = RunningMean()
    other.load(json.loads(json.dumps(mean.state())))
    other.add({"loss": 2.0, "norm": torch.tensor(5.0)})
    assert other.take() == {"loss": 1.5, "norm": 4.0}
    assert other.count == 0


def test_image_policies_train(tmp_path: Path) -> None:
    """Images go through the encoder, act takes what the transforms make of raw uint8 images."""
    from diffbot.data.contract import Action, Contract, Field

    contract = Contract(
        {"state": Field((2,)), "cam_image": Field((48, 40, 3), "uint8", kind="image")}, Action((2,)), rate=5.0
    )
    store = EpisodeStore.create(tmp_path / "images.zarr", contract)
    rng = np.random.default_rng(0)
    for _ in range(3):
        arrays = {
            "state": rng.uniform(-1, 1, (12, 2)).astype(np.float32),
            "cam_image": rng.integers(0, 255, (12, 48, 40, 3), dtype=np.uint8),
            "action": rng.uniform(-1, 1, (12, 2)).astype(np.float32),
        }
        store.append(arrays, {"success": True})
    options = {
        "keys": ["state", "cam_image"],
        "horizon": 4,
        "action_horizon": 2,
        "network_options": {"width": 16},
        "encoder": {"resnet": {"base": 16, "keypoints": 4, "features": 8}},
    }
    result = start(
        spec(tmp_path / "images.zarr", "diffusion_policy", options, steps=2, batch_size=4), tmp_path / "run"
    )
    loaded = load_bundle(result.bundle)
    raw = {"state": torch.zeros(1, 2, 2), "cam_image": torch.zeros(1, 2, 48, 40, 3, dtype=torch.uint8)}
    chunk = loaded.method.act(loaded.transforms.forward(raw), generator=torch.Generator().manual_seed(0))
    assert chunk.shape == (1, 4, 2) and bool(torch.isfinite(chunk).all())


def test_dataset_without_episodes_is_refused(tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "empty.zarr", episodes=0)
    with pytest.raises(DataError, match=r"has 0 episodes.*diffbot collect"):
        start(spec(path), tmp_path / "run")
