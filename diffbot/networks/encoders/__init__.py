"""Encoders: observations, images and instructions to vectors and tokens that networks are conditioned on."""

from diffbot.networks.encoders.observation import ObservationConfig, ObservationEncoder
from diffbot.networks.encoders.resnet import ResNet18, ResNetConfig, ResNetEncoder
from diffbot.networks.encoders.spatial_softmax import SpatialSoftmax
from diffbot.networks.encoders.state import StateConfig, StateEncoder
from diffbot.networks.encoders.text import (
    HashTokenizer,
    TaskEmbedding,
    TextConfig,
    TextEncoder,
    VocabularyTokenizer,
)
from diffbot.networks.encoders.vit import ViT, ViTConfig

__all__ = [
    "HashTokenizer",
    "ObservationConfig",
    "ObservationEncoder",
    "ResNet18",
    "ResNetConfig",
    "ResNetEncoder",
    "SpatialSoftmax",
    "StateConfig",
    "StateEncoder",
    "TaskEmbedding",
    "TextConfig",
    "TextEncoder",
    "ViT",
    "ViTConfig",
    "VocabularyTokenizer",
]
