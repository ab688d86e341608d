"""Two processes over gloo equal one process with the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffbot.cli.main import main
from diffbot.training.metrics import read_metrics

SETTINGS = (
    *("method=bc_mlp", "method.width=32", "method.keys=[position,goal]", "training.batch_size=64"),
    *(
        "training.steps=30",
        "training.log_every=10",
        "training.checkpoint_every=20",
        "training.tensorboard=false",
    ),
    *("training.accelerator=cpu", "training.threads=1", "seed=5"),
)


def launch(dataset: Path, out: Path) -> None:
    """Train with two processes by torchrun, as on many machines."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *(
            "-m",
            "diffbot.cli.main",
            "train",
            f"dataset={dataset}",
            f"out={out}",
            "training.devices=2",
            *SETTINGS,
        ),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(280)
def test_two_processes_equal_one(dataset: Path, tmp_path: Path) -> None:
    launch(dataset, tmp_path / "two")
    threads = torch.get_num_threads()
    try:
        assert main(["train", f"dataset={dataset}", f"out={tmp_path / 'one'}", *SETTINGS]) == 0
    finally:
        torch.set_num_threads(threads)
    one, two = (load_file(tmp_path / name / "policy" / "policy.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=1e-4)
    validation = [read_metrics(tmp_path / name, "train")[-1]["gradient_norm"] for name in ("one", "two")]
    assert validation[0] == pytest.approx(validation[1], rel=1e-3)
