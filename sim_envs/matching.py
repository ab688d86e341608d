"""From a contract to the environment it was made in: which options of a task make it fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim_envs.errors import SimEnvError
from sim_envs.registry import option_names


def matching_options(task: str, contract: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `make(task)` that a plain contract implies, among those that the task offers.

    contract: as environments give it. cameras and image_size follow from its images, action_mode from the meaning of its
    action, controller from who executes it. What a task does not offer is left out; whether the environment then fits
    is for the comparison of both contracts to say. Raises SimEnvError for images of several sizes or without a camera,
    and for an unknown task.
    """
    offered = option_names(task)
    action = contract["action"]
    wanted: dict[str, Any] = {"action_mode": action.get("meaning"), "controller": action.get("controller")}
    images = {key: f for key, f in contract["observations"].items() if f.get("kind") == "image"}
    if images:
        wanted["cameras"] = tuple(_camera(key, contract) for key in images)
        wanted["image_size"] = _size(images)
    return {name: value for name, value in wanted.items() if value and (offered is None or name in offered)}


def _camera(key: str, contract: Mapping[str, Any]) -> str:
    named = contract.get("cameras", {}).get(key, {}).get("name", "")
    if not named and not key.endswith("_image"):
        raise SimEnvError(
            f"observation '{key}' is an image of an unknown camera: name it after one (agentview_image)"
        )
    return named or key.removesuffix("_image")


def _size(images: Mapping[str, Mapping[str, Any]]) -> tuple[int, int]:
    sizes = {key: (int(f["shape"][0]), int(f["shape"][1])) for key, f in images.items()}
    if len(set(sizes.values())) > 1:
        words = ", ".join(f"{key} {height}x{width}" for key, (height, width) in sizes.items())
        raise SimEnvError(f"an environment renders all its images at one size, and these differ: {words}")
    return next(iter(sizes.values()))
