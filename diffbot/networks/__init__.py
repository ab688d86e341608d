"""Denoisers and encoders behind one call: net(x, t, condition)."""

from diffbot.networks.agents import AgentUNet, AgentUNetConfig
from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.dit import DiT, DiTConfig
from diffbot.networks.layer_norm_mlp import LayerNormMLP, LayerNormMLPConfig
from diffbot.networks.lstm import LSTM, LSTMConfig
from diffbot.networks.mlp import MLP, MLPConfig
from diffbot.networks.null_condition import ConditionDropout
from diffbot.networks.registry import NETWORKS, build, network_by_name, network_config, register
from diffbot.networks.seeding import seeded
from diffbot.networks.sieve import MLPSieve, SieveConfig
from diffbot.networks.transformer import Transformer, TransformerConfig
from diffbot.networks.unet import UNet, UNetConfig

__all__ = [
    "LSTM",
    "MLP",
    "NETWORKS",
    "AgentUNet",
    "AgentUNetConfig",
    "Condition",
    "ConditionDropout",
    "DiT",
    "DiTConfig",
    "LSTMConfig",
    "LayerNormMLP",
    "LayerNormMLPConfig",
    "MLPConfig",
    "MLPSieve",
    "Network",
    "SieveConfig",
    "Sizes",
    "StepCache",
    "Transformer",
    "TransformerConfig",
    "UNet",
    "UNetConfig",
    "build",
    "network_by_name",
    "network_config",
    "register",
    "seeded",
]
