"""Minari datasets (HDF5 storage): data/main_data.hdf5 with episode_<i> groups, and data/metadata.json.

Source: Minari's "Dataset Standards". An episode of T steps stores T + 1 observations; the last one is kept as the array
`final_<key>` in the per-episode values so that nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.contract import Contract, Field
from diffbot.data.formats.base import Format, ImportOptions, Source, choose, guess_contract, vectors
from diffbot.data.formats.hdf5 import open_hdf5
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError, require

MAIN, METADATA = "main_data.hdf5", "metadata.json"
FLAT, FINAL = "observation", "final_"


def detect(path: Path) -> bool:
    """A folder with main_data.hdf5 and metadata.json, directly or under data/."""
    return path.is_dir() and any((folder / MAIN).exists() for folder in (path, path / "data"))


def read(path: Path, options: ImportOptions) -> Source:
    """Open a Minari folder. Nested observation dictionaries become keys joined by dots."""
    folder = path if (path / MAIN).exists() else path / "data"
    metadata = json.loads((folder / METADATA).read_text())
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise DataError(
            f"{path}: Minari storage '{metadata['data_format']}' is not read; convert it to hdf5 with minari"
        )
    stored = metadata.get("diffbot_contract")
    with open_hdf5(folder / MAIN) as file:
        names = sorted(file, key=lambda name: int(name.rsplit("_", 1)[-1]))
        if not names:
            raise DataError(f"{path} has no episodes")
        contract = Contract.from_dict(stored) if stored else None
        first = _episode(file[names[0]], options)[0]
    if contract is None:
        contract = guess_contract(first, _rate(metadata), options)

    def episodes() -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        with open_hdf5(folder / MAIN) as file:
            for name in names:
                yield _episode(file[name], options)

    keep = ("dataset_id", "author", "code_permalink", "algorithm_name", "minari_version", "env_spec")
    return Source(contract, len(names), episodes, {k: metadata[k] for k in keep if k in metadata})


def write(store: EpisodeStore, path: Path) -> None:
    """Write a folder that `minari.load_dataset` opens: dictionary observations, rewards (zero where absent) and flags."""
    contract = store.contract
    if contract.image_keys:
        raise DataError(
            "Minari stores images as lossy JPEG: export images as lerobot or diffusion_policy instead"
        )
    (path / "data").mkdir(parents=True)
    with open_hdf5(path / "data" / MAIN, "w") as file:
        for i in range(len(store)):
            arrays, meta = store.episode(i), store.episode_meta(i)
            length = len(arrays["action"])
            group = file.create_group(f"episode_{i}", track_order=True)
            group.attrs["id"], group.attrs["total_steps"] = i, length
            if "seed" in meta:
                group.attrs["seed"] = int(meta["seed"])
            group["actions"] = arrays.pop("action")
            group["rewards"] = arrays.pop("reward", np.zeros(length))
            group["terminations"] = arrays.pop("terminated", np.zeros(length, bool)).astype(bool)
            truncated = arrays.pop("truncated", None)
            if truncated is None:
                truncated = np.zeros(length, bool)
                truncated[-1] = not group["terminations"][-1]
            group["truncations"] = truncated.astype(bool)
            for key in contract.observations:
                value = arrays.pop(key)
                final = np.asarray(meta.pop(FINAL + key, value[-1]), value.dtype)
                group[f"observations/{key}"] = np.concatenate([value, final[None]])
            for key, value in arrays.items():
                group[f"infos/{key}"] = value
            group.attrs["diffbot_meta"] = json.dumps({k: np.asarray(v).tolist() for k, v in meta.items()})
    (path / "data" / METADATA).write_text(json.dumps(_metadata(store, path), indent=1))


def _episode(group: Any, options: ImportOptions) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    actions = group["actions"]
    if not hasattr(actions, "shape"):
        raise DataError("Minari datasets with dictionary or tuple actions are not read")
    length = len(actions)
    observed = dict(_leaves(group["observations"], ""))
    meta: dict[str, Any] = json.loads(group.attrs.get("diffbot_meta", "{}"))
    arrays = {"action": vectors(actions[()])}
    for key, value in observed.items():
        if len(value) != length + 1:
            raise DataError(
                f"observations have {len(value)} rows for {length} actions, Minari writes one more"
            )
        value = vectors(value)
        arrays[key] = value[:-1]
        meta[FINAL + key] = value[-1]
    arrays["reward"] = group["rewards"][()]
    arrays["terminated"] = group["terminations"][()].astype(bool)
    arrays["truncated"] = group["truncations"][()].astype(bool)
    infos = group.get("infos", {})
    arrays |= {
        key: value[()] for key, value in infos.items() if hasattr(value, "shape") and len(value) == length
    }
    if "seed" in group.attrs:
        meta.setdefault("seed", int(group.attrs["seed"]))
    chosen = choose(arrays, options.keys)
    return chosen, {
        k: v for k, v in meta.items() if not k.startswith(FINAL) or k.removeprefix(FINAL) in chosen
    }


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    if hasattr(node, "shape"):
        yield prefix or FLAT, node[()]
        return
    for name, child in node.items():
        yield from _leaves(child, f"{prefix}.{name}" if prefix else name)


def _rate(metadata: dict[str, Any]) -> float:
    """Hz of the environment where its specification tells it."""
    spec = json.loads(metadata.get("env_spec") or "{}")
    return float(((spec.get("kwargs") or {}).get("metadata") or {}).get("render_fps", 0.0))


def _metadata(store: EpisodeStore, path: Path) -> dict[str, Any]:
    serialize = require("minari.serialization", "dev", "writing Minari datasets").serialize_space
    spaces = require("gymnasium.spaces", "sim", "writing Minari datasets")

    def box(field: Field) -> Any:
        low = -np.inf if field.low is None else np.broadcast_to(field.low, (field.size,)).reshape(field.shape)
        high = (
            np.inf if field.high is None else np.broadcast_to(field.high, (field.size,)).reshape(field.shape)
        )
        return spaces.Box(low, high, field.shape, np.dtype(field.dtype).type)

    observation = spaces.Dict({key: box(field) for key, field in store.contract.observations.items()})
    return {
        "dataset_id": f"diffbot/{path.name.rsplit('.', 1)[-1]}-v0",
        "total_episodes": len(store),
        "total_steps": store.steps,
        "data_format": "hdf5",
        "observation_space": serialize(observation),
        "action_space": serialize(box(store.contract.action)),
        "minari_version": require("minari", "dev", "writing Minari datasets").__version__,
        "dataset_size": 0.0,
        "diffbot_contract": store.contract.to_dict(),
    }


FORMAT = Format("minari", "Minari folder (HDF5 storage)", detect, read, write)
