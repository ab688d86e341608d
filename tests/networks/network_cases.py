"""A small instance of every registered network, shared by the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diffbot.networks import Condition, Network, build, network_by_name

SMALL = {
    "mlp": {"width": 32},
    "layer_norm_mlp": {"width": 32},
    "mlp_sieve": {"width": 32, "embed_dim": 16},
    "unet": {"down_dims": (16, 32), "groups": 4, "time_dim": 16},
    "transformer": {"width": 32, "layers": 2},
    "dit": {"width": 32, "layers": 2},
    "lstm": {"width": 16},
    "agent_unet": {"down_dims": (16, 32), "groups": 4, "time_dim": 16},
}
T, C, D, LOCAL, TOKEN, TOKENS = 8, 3, 5, 2, 6, 4


@dataclass
class Case:
    net: Network
    x: torch.Tensor
    t: torch.Tensor
    condition: Condition


def make(name: str, batch: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> Case:
    """A small network with every condition part that it reads, away from its special initial weights."""
    cls = network_by_name(name)
    shape = (TOKENS, T, C) if 3 in cls.ranks else (T, C)
    widths = {"condition_dim": D}
    widths |= {"local_dim": LOCAL} if "local" in cls.reads else {}
    widths |= {"token_dim": TOKEN} if "tokens" in cls.reads else {}
    net = build({"name": name, **SMALL[name]}, shape, **widths, generator=seed).to(dtype).eval()
    g = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():  # zero-initialised gates would hide the rest of a network
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=g, dtype=dtype)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=g, dtype=dtype)

    condition = Condition(
        global_=draw(batch, D),
        local=draw(batch, T, LOCAL) if "local" in cls.reads else None,
        tokens=draw(batch, TOKENS, TOKEN) if "tokens" in cls.reads else None,
    )
    return Case(net, draw(batch, *shape), torch.rand(batch, generator=g, dtype=dtype), condition)
