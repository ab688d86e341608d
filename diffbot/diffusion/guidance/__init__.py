"""Guidance turns a denoise function into another one; guidances nest and every solver takes the result."""

from diffbot.diffusion.guidance.classifier import ClassifierGuidance, energy_guidance
from diffbot.diffusion.guidance.composition import BatchedComposition, ClassifierFree, Composition
from diffbot.diffusion.guidance.inpaint import InpaintGuidance

__all__ = [
    "BatchedComposition",
    "ClassifierFree",
    "ClassifierGuidance",
    "Composition",
    "InpaintGuidance",
    "energy_guidance",
]
