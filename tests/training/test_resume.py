"""A killed or stopped training that is resumed equals an uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from point_dataset import make_dataset
from safetensors.torch import load_file

from diffbot.errors import DataError
from diffbot.methods.registry import build_config
from diffbot.training.checkpoint import list_checkpoints
from diffbot.training.config import TrainingConfig
from diffbot.training.metrics import read_metrics
from diffbot.training.run import RunSpec, resume, start

STEPS = 240
SETTINGS = {"checkpoint_every": 20, "log_every": 7, "validate_every": 30, "batch_size": 32, "threads": 1}
OPTIONS = {"network_options": {"width": 64}, "observation_horizon": 2, "horizon": 8, "action_horizon": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dataset and the folder `whole` of an uninterrupted run."""
    path = tmp_path_factory.mktemp("resume")
    make_dataset(path / "point.zarr")
    threads = torch.get_num_threads()
    training = TrainingConfig(steps=STEPS, tensorboard=False, **SETTINGS)  # type: ignore[arg-type]
    start(RunSpec("diffusion_policy", config(), path / "point.zarr", training, seed=3), path / "whole")
    yield path
    torch.set_num_threads(threads)


def config() -> object:
    return build_config("diffusion_policy", OPTIONS)


def command(folder: Path, out: Path) -> list[str]:
    settings = [f"training.{key}={value}" for key, value in SETTINGS.items()]
    return [
        *(sys.executable, "-m", "diffbot.cli.main", "train", "method=diffusion_policy", "seed=3"),
        *(
            f"dataset={folder / 'point.zarr'}",
            f"out={out}",
            f"training.steps={STEPS}",
            "training.tensorboard=false",
        ),
        *("method.network_options={width:64}", "method.horizon=8", "method.action_horizon=4", *settings),
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_resumed_equals_uninterrupted(folder: Path, number: signal.Signals) -> None:
    out = folder / number.name
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(folder, out), env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(list_checkpoints(out / "checkpoints")) < 2 and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.002)
        process.send_signal(number)
        status = process.wait(60)
    finally:
        process.kill()
    step = list_checkpoints(out / "checkpoints")[-1][0]
    assert 0 < step < STEPS
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 128 + signal.SIGTERM)

    result = resume(out)
    assert result.outcome.step == STEPS
    whole = folder / "whole"
    for kind in ("train", "validation"):
        assert read_metrics(out, kind) == read_metrics(whole, kind)
    ours, theirs = (load_file(path / "policy" / "policy.safetensors") for path in (out, whole))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    newest = (list_checkpoints(path / "checkpoints")[-1][1] / "state.safetensors" for path in (out, whole))
    assert len({path.read_bytes() for path in newest}) == 1


def test_resuming_a_finished_run_changes_nothing(folder: Path) -> None:
    before = (folder / "whole" / "policy" / "policy.safetensors").read_bytes()
    assert resume(folder / "whole").outcome.step == STEPS
    assert (folder / "whole" / "policy" / "policy.safetensors").read_bytes() == before


def test_resume_survives_a_grown_dataset(folder: Path) -> None:
    """A run keeps to the episodes that it began with."""
    from diffbot.data.store import EpisodeStore

    make_dataset(folder / "grown.zarr", seed=0)
    training = TrainingConfig(steps=20, tensorboard=False, **SETTINGS)  # type: ignore[arg-type]
    start(RunSpec("diffusion_policy", config(), folder / "grown.zarr", training), folder / "grown")
    store = EpisodeStore.open(folder / "grown.zarr", "a")
    store.append({key: values[:20] for key, values in store.episode(0).items()}, {"success": True})
    assert resume(folder / "grown", steps=30).outcome.step == 30


def test_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a training run"):
        resume(tmp_path / "nothing")
