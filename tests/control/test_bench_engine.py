"""The opponent of `bench engine` computes the same chunk, so the ratio compares like with like."""

import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="the stock scheduler")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks._stock_unet import from_ours
from benchmarks.engine import Config, engine_chunk, inputs, stock_chunk, unet
from diffbot.networks import Condition

SMALL = (16, 32)


def test_stock_network_and_whole_chunk_equal_ours():
    config = Config(steps=4, horizon=8)
    net = unet(config, SMALL)
    x, condition = inputs(config)
    with torch.inference_mode():
        ours = net(x, torch.tensor([0.3]), Condition(condition))
        stock = from_ours(net)(x, torch.tensor([30.0]), condition)
    torch.testing.assert_close(stock, ours, atol=1e-5, rtol=0)
    reference = stock_chunk(net, config)()
    torch.testing.assert_close(engine_chunk(net, "eager", 4, config)(), reference, atol=1e-5, rtol=0)
    torch.testing.assert_close(engine_chunk(net, "auto", 4, config)(), reference, atol=1e-4, rtol=0)
