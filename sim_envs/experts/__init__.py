"""Scripted demonstrators: what they have in common."""

from sim_envs.experts.base import Expert, Noise, Quality, quality_named

__all__ = ["Expert", "Noise", "Quality", "quality_named"]
