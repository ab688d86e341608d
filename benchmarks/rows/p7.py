"""P7, Crossway Diffusion against Diffusion Policy on images of Push-T: equal steps, data, network and encoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._learned import learned
from benchmarks._rows import Results, Row, Study, Verdict
from benchmarks.rows.p3 import DATASET
from benchmarks.rows.p3 import collect as collect_states

TASK, CAMERA = "pusht/state", "overhead"
IMAGES = "images.zarr"
OURS, PLAIN = "crossway_diffusion", "diffusion_policy"


def studies(budget: str) -> tuple[Study, ...]:
    """smoke: 32 pixels and tiny networks. cpu: 48 pixels and a small ViT. gpu: 84 pixels and the published networks."""
    common: dict[str, Any] = {"keys": ["overhead_image", "pusher_position"], "network": "unet"}
    vit = {"patch": 8, "width": 64, "layers": 2, "features": 32}
    if budget == "smoke":
        options = common | {
            "network_options": {"down_dims": [16, 32], "time_dim": 16},
            "encoder": {"image_encoder": "vit", "crop": 1.0, "vit": {"patch": 8, "width": 16, "layers": 1, "heads": 2}},
        }  # fmt: skip
        decoder = {"channels": [8, 8], "position_dim": 8, "image_size": 16}
        training = {"steps": 30, "batch_size": 16, "log_every": 5}
        settings = (options, decoder, training)
        return (
            study(*settings, pixels=32, demonstrations=2, quality="poor", episodes=1, horizon=20, seeds=(0,)),
        )
    if budget == "gpu":
        options = common | {
            "network_options": {"down_dims": [512, 1024, 2048], "time_dim": 128},
            "solver": "ddpm",
            "inference_steps": 100,
            "optimizer": {"learning_rate": 1e-4, "warmup": 500},
            "ema": {"maximum": 0.9999},
        }
        decoder = {"channels": [256, 128], "position_dim": 64, "image_size": 84}
        training = {"steps": 200_000, "batch_size": 64, "precision": "bf16-mixed"}
        return (study(options, decoder, training, pixels=84, episodes=50),)
    options = common | {
        "network_options": {"down_dims": [64, 128], "time_dim": 64},
        "prediction": "sample",
        "encoder": {"image_encoder": "vit", "crop": 1.0, "vit": vit},
    }
    decoder = {"channels": [32, 16], "position_dim": 16, "image_size": 24}
    training = {"steps": 600, "batch_size": 64, "precision": "bf16-mixed"}
    return (study(options, decoder, training, pixels=48, episodes=12),)


def study(
    options: dict[str, Any],
    decoder: dict[str, Any],
    training: dict[str, Any],
    *,
    pixels: int,
    episodes: int,
    demonstrations: int = 200,
    quality: str = "expert",
    horizon: int = 300,
    seeds: tuple[int, ...] = (0, 1, 2),
) -> Study:
    """Both arms with the same options; Crossway Diffusion has its decoder besides."""
    common: dict[str, Any] = {
        "task": TASK,
        "dataset": IMAGES,
        "training": training,
        "episodes": episodes,
        "metric": "coverage",
        "rollouts": {"horizon": horizon},
        "env": {"image_size": (pixels, pixels)},
    }
    arms = (
        learned(OURS, OURS, options | {"decoder": decoder}, **common),
        learned(PLAIN, PLAIN, options, **common),
    )
    about = (
        f"{demonstrations} demonstrations of the scripted {quality}, {pixels}x{pixels} pixels and the pusher's position, "
        f"{training['steps']} steps of {training['batch_size']} windows for both, {episodes} episodes for each seed."
    )
    prepared = partial(prepare, pixels=pixels, demonstrations=demonstrations, quality=quality)
    return Study("pusht_images", "coverage", arms, seeds, prepared, about)


def prepare(shared: Path, *, pixels: int, demonstrations: int, quality: str) -> None:
    """The demonstrations of the state study, seen from above: images rendered from the recorded states."""
    import sim_envs
    from diffbot.data.contract import Contract
    from diffbot.data.store import EpisodeStore
    from sim_envs.recording import render_states

    collect_states(shared, task=TASK, episodes=demonstrations, quality=quality)
    states = EpisodeStore.open(shared / DATASET)
    env: Any = sim_envs.make(TASK, cameras=(CAMERA,), image_size=(pixels, pixels))
    try:
        contract = Contract.from_dict(env.unwrapped.contract())
        path = shared / IMAGES
        images = EpisodeStore.open(path, "a") if path.exists() else EpisodeStore.create(path, contract)
        with images.writer() as writer:
            for index in range(len(images), len(states)):
                arrays = states.episode(index)
                pictures = render_states(env, arrays["sim_state"], (CAMERA,), (pixels, pixels))
                writer.append({**arrays, **pictures}, states.episode_meta(index))
    finally:
        env.close()


def judge(results: Results) -> Verdict:
    """Above Diffusion Policy at equal steps."""
    ours, plain = (results.mean("pusht_images", arm) for arm in (OURS, PLAIN))
    return Verdict(
        ours > plain, f"Coverage {ours:.3f} against {plain:.3f} of Diffusion Policy, means over seeds."
    )


ROW = Row(
    id="P7",
    system="Crossway Diffusion",
    paper="Li et al., ICRA 2024",
    claim="RS/PT images: above P3 at equal steps",
    studies=studies,
    judge=judge,
)
