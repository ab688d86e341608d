"""Denoisers and encoders behind one call: net(x, t, condition)."""

from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.mlp import MLP, MLPConfig
from diffbot.networks.registry import NETWORKS, build, network_by_name, network_config, register
from diffbot.networks.unet import UNet, UNetConfig

__all__ = [
    "MLP",
    "NETWORKS",
    "Condition",
    "MLPConfig",
    "Network",
    "Sizes",
    "StepCache",
    "UNet",
    "UNetConfig",
    "build",
    "network_by_name",
    "network_config",
    "register",
]
