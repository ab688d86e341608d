"""Forward/inverse pairs between recorded values and what a network sees."""

from diffbot.data.transforms.base import TRANSFORMS, ConstantDimensionWarning, Transform, build
from diffbot.data.transforms.group import TransformGroup
from diffbot.data.transforms.image import CentreCrop, ColorJitter, ImageScale, RandomCrop
from diffbot.data.transforms.normalize import Identity, MeanStd, MinMax, Quantile
from diffbot.data.transforms.relative import RelativeAction
from diffbot.data.transforms.rotation import Rotation

__all__ = [
    "TRANSFORMS",
    "CentreCrop",
    "ColorJitter",
    "ConstantDimensionWarning",
    "Identity",
    "ImageScale",
    "MeanStd",
    "MinMax",
    "Quantile",
    "RandomCrop",
    "RelativeAction",
    "Rotation",
    "Transform",
    "TransformGroup",
    "build",
]
