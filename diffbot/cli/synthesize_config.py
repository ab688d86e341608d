"""What `diffbot synthesize` is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffbot.cli.config import group
from diffbot.training.config import TrainingConfig


@dataclass(frozen=True)
class SynthesizeConfig:
    """What is learned from, and how much is drawn."""

    dataset: str = "???"  # the recorded episodes
    out: str = "???"  # where the synthesized dataset goes
    method: Any = group("method", "synther")
    episodes: int = 0  # how many demonstrations the dataset shall have (synthesizers of demonstrations)
    sources: int = 0  # they start from the first so many episodes; 0: all
    bundle: str = ""  # a trained synthesizer to use instead of training one
    run: str = ""  # folder of the training; default runs/<dataset>_<method>, continued when it exists
    transitions: int = 0  # how many are drawn; 0: as many as the dataset has
    seed: int = 0  # of training and of the draws
    block: int = 2000  # transitions that are drawn and stored at once
    solver: str = ""  # another solver than the synthesizer was trained with, such as edm_heun
    force: bool = False  # write, and mark, samples that fail their checks
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(validation=0.0))
