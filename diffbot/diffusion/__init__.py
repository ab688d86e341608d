"""Noise to data on plain tensors: schedule x prediction x solver x guidance x constraint. Imports only torch."""

from diffbot.diffusion.constraints import Clip, Constraint, Inpaint, Project, Threshold, Together
from diffbot.diffusion.denoiser import Denoise, DenoiseFunction, Denoiser, convert
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.losses import diffusion_loss, diffusion_losses, masked_mean
from diffbot.diffusion.predictions import (
    PREDICTIONS,
    Prediction,
    convert_output,
    noise_of,
    prediction_by_name,
    score_of,
    velocity_of,
)
from diffbot.diffusion.schedule import Coefficients, Schedule, add_noise, noise_like, prior_noise
from diffbot.diffusion.schedules import (
    EDM,
    SCHEDULES,
    VE,
    RectifiedFlow,
    VPCosine,
    VPDiscreteLinear,
    VPLinear,
    VPSquaredCosine,
    schedule_by_name,
)
from diffbot.diffusion.solvers import SOLVERS, Solver, StepInfo, solver_by_name
from diffbot.diffusion.spacings import SPACINGS, spacing, spacing_by_name

__all__ = [
    "EDM",
    "PREDICTIONS",
    "SCHEDULES",
    "SOLVERS",
    "SPACINGS",
    "VE",
    "Clip",
    "Coefficients",
    "Constraint",
    "Denoise",
    "DenoiseFunction",
    "Denoiser",
    "DiffusionError",
    "Inpaint",
    "Prediction",
    "Project",
    "RectifiedFlow",
    "Schedule",
    "Solver",
    "StepInfo",
    "Threshold",
    "Together",
    "VPCosine",
    "VPDiscreteLinear",
    "VPLinear",
    "VPSquaredCosine",
    "add_noise",
    "convert",
    "convert_output",
    "diffusion_loss",
    "diffusion_losses",
    "masked_mean",
    "noise_like",
    "noise_of",
    "prediction_by_name",
    "prior_noise",
    "schedule_by_name",
    "score_of",
    "solver_by_name",
    "spacing",
    "spacing_by_name",
    "velocity_of",
]
