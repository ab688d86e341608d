"""Demonstration augmentation (S6): few demonstrations re-targeted to new object poses, and a diffusion model of what succeeded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path as File
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.data.transforms import TransformGroup
from diffbot.data.window_spec import WindowSpec
from diffbot.errors import ConfigError
from diffbot.methods.demonstrations import Scene, Sources
from diffbot.methods.policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from diffbot.methods.registry import register
from diffbot.methods.retargeting import POINT, Path, from_points, perturbed, retarget, to_points

SCENE = "scene"  # the observation key of a dataset of trajectories


@dataclass(frozen=True)
class DemoAugmentationConfig(DiffusionPolicyConfig):
    """Settings of demonstration augmentation; "paper" is MimicGen (Mandlekar et al. 2023)."""

    explore: int = 60  # episodes that re-targeting has to bring before the diffusion model learns from them
    trial: int = 20  # attempts by which each of both is judged before anything is written
    spread: float = 0.02  # m, smooth random bend of a re-targeted path; paper: none
    turn: float = 0.1  # rad, the same of its rotations
    rigid: float = 0.05  # m of way at both ends of a segment that are not deformed
    noise: float = 0.0025  # m, of each set-point; paper: 0.05 of a step's largest delta, which is this
    noise_turn: float = 0.01  # rad, the same of its rotation
    # How often in a full turn about its z axis an object looks the same, by its label; 0: always. Others: once.
    symmetry: dict[str, int] = field(default_factory=lambda: {"cube": 4, "a": 4, "b": 4, "can": 0})
    # Paths of one source for all segments of an episode, whose grasp fits what follows; or of any for each (paper: both)
    exchange: bool = False
    learning_steps: int = 1500  # of the diffusion model, where training.steps gives none
    points: int = 32  # waypoints of a segment, which the diffusion model learns; its horizon is all of them
    observation_horizon: int = 1
    network_options: dict[str, Any] = field(default_factory=lambda: {"width": 384, "depth": 3})
    prediction: str = "sample"  # small networks learn clean samples sooner than noise
    inference_steps: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("explore", 1), ("trial", 1), ("learning_steps", 1), ("points", 3)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("spread", "turn", "rigid", "noise", "noise_turn"):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        wrong = {name: fold for name, fold in self.symmetry.items() if fold < 0}
        if wrong:
            raise ConfigError(f"symmetry says how often an object looks the same in a turn, got {wrong}")


@register(
    name="demo_augmentation",
    role="synthesizer",
    system="S6",
    paper="Mandlekar et al., MimicGen, CoRL 2023; Ho et al., DDPM, NeurIPS 2020",
    config=DemoAugmentationConfig,
)
class DemoAugmentation(DiffusionPolicy):
    """Denoises whole demonstrations: the waypoints of all segments, each in its object's frame, given the scene.

    Its data are the sources and the re-targeted episodes that reached success in the simulator (`trajectory_dataset`), so
    it proposes what re-targeting with random bends found to work. What it proposes counts only once the simulator has
    verified it, as `diffbot synthesize` does.
    """

    Config = DemoAugmentationConfig
    config: DemoAugmentationConfig

    @property
    def segments(self) -> int:
        """How many segments a demonstration has."""
        return self.horizon // self.config.points

    @classmethod
    def window(cls, config: DemoAugmentationConfig, contract: Contract) -> WindowSpec:
        """One window an episode: all of it."""
        return WindowSpec(1, config.horizon, (SCENE,), every=config.horizon, pad_end=0)

    @classmethod
    def transforms(cls, config: DemoAugmentationConfig, contract: Contract) -> TransformGroup:
        """Scene and waypoints to [-1, 1]."""
        return TransformGroup.default(contract, config.normalization)

    @torch.no_grad()
    def propose(
        self,
        scene: np.ndarray,
        pattern: tuple[float, ...],
        transforms: TransformGroup,
        generator: torch.Generator,
    ) -> tuple[Path, ...]:
        """One path for each segment, in the segments' frames, drawn for `scene` [C]."""
        given = transforms.forward({SCENE: torch.from_numpy(scene)[None, None]})
        drawn = transforms.inverse({"action": self.act(given, generator=generator)})["action"]
        parts = drawn[0].double().numpy().reshape(len(pattern), -1, POINT)
        return tuple(from_points(part, grip) for part, grip in zip(parts, pattern, strict=True))


def fitted(config: DemoAugmentationConfig, sources: Sources) -> DemoAugmentationConfig:
    """The settings with the horizon that these sources need."""
    horizon = config.points * len(sources.frames)
    return replace(config, horizon=horizon, action_horizon=min(config.action_horizon, horizon))


def trajectory_dataset(
    path: File, found: Sources, firsts: list[np.ndarray], points: int, contract: Contract
) -> EpisodeStore:
    """Write paths as a dataset of waypoints: an episode's actions are its segments' waypoints one after the other.

    firsts: the scene vector [C] of each demonstration of `found`.
    """
    seen = Contract(
        {SCENE: Field(firsts[0].shape, "float32")},
        Action((POINT,), "float32", space="other"),
        rate=contract.rate,
        task=contract.task,
    )
    store = EpisodeStore.create(path, seen, {"frames": list(found.frames), "pattern": list(found.pattern)})
    with store.writer() as writer:
        for number, first in enumerate(firsts):
            rows = np.concatenate([to_points(group[number], points) for group in found.paths])
            writer.append({"action": rows.astype(np.float32), SCENE: np.repeat(first[None], len(rows), 0)})
    return store


def retargeted(
    found: Sources, config: DemoAugmentationConfig, rng: np.random.Generator
) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """For each segment the path of a source, bent at random; and the episodes that these sources are."""
    chosen = rng.integers(len(found.episodes), size=len(found.paths) if config.exchange else 1)
    chosen = np.broadcast_to(chosen, len(found.paths))
    paths = [
        perturbed(group[int(i)], rng, config.spread, config.turn, config.rigid)
        for group, i in zip(found.paths, chosen, strict=True)
    ]
    return tuple(paths), tuple(found.episodes[int(i)] for i in chosen)


class Demonstrator:
    """Plays paths: puts each to where its object is when it begins, and gives the set-points with noise, step by step."""

    def __init__(
        self,
        paths: tuple[Path, ...],
        frames: tuple[str, ...],
        scene: Scene,
        config: DemoAugmentationConfig,
        rng: np.random.Generator,
    ) -> None:
        self.paths, self.frames, self.scene, self.config, self.rng = paths, frames, scene, config, rng
        self._segment, self._step, self._placed = -1, 0, paths[0]

    def set_point(self, observation: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Where the gripper goes from `observation`: position [3], rotation vector [3], gripper command; None at the end."""
        if self._segment < 0 or self._step == len(self._placed):
            if self._segment + 1 == len(self.paths):
                return None
            self._segment, self._step = self._segment + 1, 0
            path, gripper = self.paths[self._segment], self.scene.gripper(observation)
            frame = self.scene.frame(self.frames[self._segment], observation, path.end.rotation, gripper)
            self._placed = retarget(path, frame, gripper, self.config.rigid)
        at, self._step = self._step, self._step + 1
        position = self._placed.positions[at] + self.config.noise * self.rng.standard_normal(3)
        wobble = self.config.noise_turn * self.rng.standard_normal(3)
        rotation = Rotation.from_rotvec(wobble) * self._placed.rotations[at]
        return position, rotation.as_rotvec(), self._placed.grip
