"""The opponent of `bench training` computes the same loss and takes the same steps, so the ratio compares like with like."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.training import Config, curves, make_data, run


@pytest.mark.parametrize("name", ["mlp", "unet_small"])
def test_equal_weights_data_and_noise_give_equal_losses(tmp_path: Path, name: str) -> None:
    path = make_data(tmp_path / "arm.zarr", 0, episodes=3, length=40)
    difference = curves(name, path, 0, steps=3, batch_size=8)
    assert difference["fp32"] < 1e-5 and difference["bf16"] < 0.02


@pytest.mark.slow
def test_figures() -> None:
    config = Config(networks=("mlp",), rounds=1, steps={"mlp": 2}, workers=(0,), curves={"mlp": [3, 8]})
    figures = run(config).figures
    assert {"mlp.ratio", "mlp.fp32.ratio", "mlp.bf16.ratio", "loss.max_rel_diff"} <= figures.keys()
