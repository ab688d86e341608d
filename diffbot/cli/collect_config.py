"""What `diffbot collect` is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CollectConfig:
    """What to record and where."""

    task: str = ""  # diffbot list tasks
    # A file of datasets/recipes, by name or path; it decides everything but fraction, out, workers and resume
    recipe: str = ""
    episodes: int = 100  # number of episodes that the dataset shall hold in the end
    steps: int = 0  # instead: number of steps, in whole episodes
    fraction: float = 0.0  # the part of episodes or steps to record; 0: as the recipe says, else all
    out: str = ""  # dataset folder; empty: datasets/<task>[_images][_<quality>].zarr
    # First episode seed; episodes take seed, seed + 1, ... below 100000, where evaluation begins.
    seed: int = 0
    quality: str = "expert"  # expert, good, okay or poor; of locomotion random, medium, expert or stage-NN
    # Several qualities one after the other, with relative shares: +mix.medium=1 +mix.expert=1
    mix: dict[str, float] = field(default_factory=dict)
    published: str = ""  # the published dataset whose size `steps` is
    workers: str = "auto"  # processes; auto: one for each core
    cameras: list[str] = field(default_factory=list)  # images to record: [agentview,robot0_eye_in_hand]
    image_size: list[int] = field(default_factory=lambda: [84, 84])  # height and width of the images
    keep_failures: bool = False  # also store episodes that did not succeed
    resume: bool = True  # continue a dataset that exists; false: refuse to touch it
    # Options of the environment: +env.controller=JOINT_POSITION
    env: dict[str, Any] = field(default_factory=dict)
    # A person instead of the expert: browser, keyboard, gamepad, spacemouse, leader-topic or leader-pose; see docs/teleoperation.md
    device: str = ""
    operator: str = ""  # who leads the arm; empty: the user's name
    page: bool = True  # serve the browser page for the other devices too, to see the task on
    host: str = "127.0.0.1"  # of the browser page: only this machine unless you say otherwise
    port: int = 8080  # of the browser page
    scene: bool = True  # the browser page shows the 3-D scene
    view_cameras: list[str] = field(
        default_factory=list
    )  # images on the browser page; empty: front and wrist
