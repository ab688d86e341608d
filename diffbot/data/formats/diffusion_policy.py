"""diffusion_policy replay buffers (zarr folder or .zarr.zip) and UMI's, whose actions follow from the recorded poses.

Source: the replay buffer of Chi et al. (2023): data/<key>, meta/episode_ends. Universal Manipulation Interface (Chi et al., 2024)
stores end-effector poses and gripper widths and no action: the action of a step is the pose and width of the next one.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.formats.base import Format, ImportOptions, Source, choose, guess_contract, vectors
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError, require

POSE = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
UMI_RATE = 60.0


def detect(path: Path) -> bool:
    """A zarr folder or zip with meta/episode_ends and an action array."""
    return "action" in _keys(path)


def detect_umi(path: Path) -> bool:
    """The same without an action, with UMI's pose keys."""
    keys = _keys(path)
    return "action" not in keys and set(POSE) <= set(keys)


def read(path: Path, options: ImportOptions) -> Source:
    """Open a replay buffer; the contract in its attributes serves where there is one."""
    store = _open(path)
    first = _vectors(store.episode(0)) if len(store) else {}
    if not first:
        raise DataError(f"{path} has no episodes")
    if store.has_contract:
        contract = store.contract
    else:
        contract = guess_contract(choose(first, options.keys), 0.0, options)

    def episodes() -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        for i in range(len(store)):
            arrays = store.episode(i) if store.has_contract else _vectors(store.episode(i))
            yield choose(arrays, options.keys), store.episode_meta(i)

    return Source(contract, len(store), episodes, store.provenance)


def read_umi(path: Path, options: ImportOptions) -> Source:
    """Open a UMI buffer. The last frame of an episode has no next pose and is left out."""
    # UMI compresses images as JPEG XL, which imagecodecs decodes.
    require("imagecodecs.numcodecs", "formats", "UMI images").register_codecs(verbose=False)
    store = _open(path)

    def convert(i: int) -> dict[str, np.ndarray]:
        arrays = _vectors(store.episode(i))
        for key in POSE:
            if key not in arrays:
                raise DataError(f"{path} lacks '{key}', which UMI datasets have")
        pose = np.concatenate([arrays[key] for key in POSE], axis=1)
        episode = {key: value[:-1] for key, value in arrays.items()}
        return choose(episode | {"action": pose[1:].astype(np.float32)}, options.keys)

    given = ImportOptions(options.rate or UMI_RATE, options.task, "absolute", "cartesian", options.keys)
    contract = guess_contract(convert(0), 0.0, given)

    def episodes() -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        for i in range(len(store)):
            yield convert(i), store.episode_meta(i)

    return Source(contract, len(store), episodes, {"robot": "UMI"})


def write(store: EpisodeStore, path: Path) -> None:
    """Write a zarr format 2 folder, or a zip when `path` ends in .zip; contract and provenance stay in its attributes."""
    folder = path.with_name(path.name + ".folder") if path.suffix == ".zip" else path
    copy = EpisodeStore.create(folder, store.contract, store.provenance)
    with copy.writer() as writer:
        for i in range(len(store)):
            writer.append(store.episode(i), store.episode_meta(i))
    if folder != path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(folder).as_posix())
        shutil.rmtree(folder)
    folder.with_name(f".{folder.name}.lock").unlink(missing_ok=True)


def _open(path: Path) -> EpisodeStore:
    return EpisodeStore.open(path)


def _keys(path: Path) -> tuple[str, ...]:
    if not (path.is_dir() or zipfile.is_zipfile(path)):
        return ()
    try:
        return _open(path).keys
    except DataError:
        return ()


def _vectors(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flat = ("reward", "terminated", "truncated", "time")
    return {key: value if key in flat else vectors(value) for key, value in arrays.items()}


FORMATS = [
    Format(
        "diffusion_policy", "diffusion_policy replay buffer, zarr folder or .zarr.zip", detect, read, write
    ),
    Format("umi", "Universal Manipulation Interface .zarr.zip (JPEG XL images)", detect_umi, read_umi),
]
