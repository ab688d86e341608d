"""One- and few-step models: consistency training and distillation, reflow, truncated diffusion. Losses, not loops."""

from diffbot.diffusion.distillation.consistency import (
    consistency_distillation_loss,
    consistency_grid,
    consistency_training_loss,
    grid_size,
    pseudo_huber,
)
from diffbot.diffusion.distillation.reflow import reflow_loss, reflow_pairs, straightness
from diffbot.diffusion.distillation.truncated import (
    discriminator_loss,
    energy_distance,
    generator_loss,
    truncated_sample,
    truncated_start,
    truncated_times,
)

__all__ = [
    "consistency_distillation_loss",
    "consistency_grid",
    "consistency_training_loss",
    "discriminator_loss",
    "energy_distance",
    "generator_loss",
    "grid_size",
    "pseudo_huber",
    "reflow_loss",
    "reflow_pairs",
    "straightness",
    "truncated_sample",
    "truncated_start",
    "truncated_times",
]
