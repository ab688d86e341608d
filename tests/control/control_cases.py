"""A small contract and a real policy with random weights."""

import numpy as np
import torch

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.transforms import TransformGroup
from diffbot.methods.bundle import LoadedPolicy
from diffbot.methods.registry import build_config, method_by_name

RATE = 20.0


def make_contract(meaning="delta", low=(-1.0,), high=(1.0,), space="cartesian"):
    names = ("x", "y", "z", "gripper")
    action = Action((4,), low=low, high=high, names=names, meaning=meaning, space=space)
    return Contract({"eef_pos": Field((3,)), "object": Field((5,))}, action, RATE)


def make_policy(contract, network="unet", options=None, **settings):
    """A diffusion policy with random weights; its transforms are fitted to random data."""
    torch.manual_seed(0)
    entry = method_by_name("diffusion_policy")
    options = options or ({"down_dims": [16, 32]} if network == "unet" else {"width": 32, "depth": 2})
    config = build_config(
        "diffusion_policy",
        {"network": network, "network_options": options, "inference_steps": 5, **settings},
    )
    transforms = TransformGroup.default(contract)
    rng = np.random.default_rng(0)
    data = {
        k: torch.from_numpy(rng.normal(size=(200, *f.shape)).astype(np.float32))
        for k, f in contract.observations.items()
    }
    data["action"] = torch.from_numpy(rng.uniform(-1, 1, (200, contract.action.size)).astype(np.float32))
    transforms.fit(data)
    method = entry.cls(config, transforms.transformed_contract(contract))
    return LoadedPolicy(method, transforms, contract, config)


def observe(contract, step, seed=0):
    """The observation of one step, the same at every call."""
    rng = np.random.default_rng([seed, step])
    return {k: rng.normal(size=f.shape).astype(np.float32) for k, f in contract.observations.items()}
