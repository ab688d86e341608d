"""LeRobot datasets, versions v2.1 (a parquet and an MP4 file an episode) and v3.0 (many episodes a file).

Source: the dataset documentation of LeRobot (meta/info.json, episodes, tasks, stats; data/; videos/).
Keys: observation.<key> <-> key, observation.images.<camera> <-> <camera>_image, next.reward <-> reward, next.done <-> terminated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.contract import Contract
from diffbot.data.formats.base import Format, ImportOptions, Source, choose, guess_contract, vectors
from diffbot.data.formats.frames import read_frames, write_frames
from diffbot.data.formats.lerobot_meta import CHUNK, Episode, LeRobotMeta, read_meta, write_meta
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError, require

BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
RENAMED = {"next.reward": "reward", "next.done": "terminated"}
OURS = "diffbot."


def detect(version: str, path: Path) -> bool:
    """A folder with meta/info.json of this version."""
    info = path / "meta" / "info.json"
    return info.is_file() and f'"{version}"' in info.read_text(errors="replace")


def read(path: Path, options: ImportOptions) -> Source:
    """Open a dataset of either version."""
    meta = read_meta(path)
    if not meta.episodes:
        raise DataError(f"{path} has no episodes")
    stored = meta.info.get("diffbot_contract")

    def episodes() -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        for episode in meta.episodes:
            arrays = _arrays(path, meta, episode)
            yield (
                choose(arrays, options.keys),
                {"task": episode.task, **episode.extra} if not stored else episode.extra,
            )

    if stored:
        contract = Contract.from_dict(stored)
    else:
        first = choose(_arrays(path, meta, meta.episodes[0]), options.keys)
        names = {our_name(k): _names(f) for k, f in meta.info["features"].items()}
        contract = guess_contract(first, float(meta.info["fps"]), options, names)
    keep = ("codebase_version", "robot_type")
    return Source(contract, len(meta.episodes), episodes, {k: meta.info[k] for k in keep if k in meta.info})


def write(version: str, store: EpisodeStore, path: Path) -> None:
    """Write a store. Images become lossless MP4; float64 and other arrays keep their dtype."""
    pa, pq = require("pyarrow", "formats"), require("pyarrow.parquet", "formats")
    contract = store.contract
    images = set(contract.image_keys)
    episodes, index, offset = [], 0, 0.0
    writer: Any = None
    for i in range(len(store)):
        arrays = store.episode(i)
        length = len(arrays["action"])
        stamps = np.arange(length)
        columns = {their_name(k, contract): v for k, v in arrays.items() if k not in images}
        columns |= {
            "timestamp": (stamps / contract.rate).astype(np.float32),
            "frame_index": stamps,
            "episode_index": np.full(length, i),
            "index": index + stamps,
            "task_index": np.zeros(length, np.int64),
        }
        table = pa.table({key: _column(pa, value) for key, value in columns.items()})
        place = {"chunk": i // CHUNK, "file": i % CHUNK} if version == "v2.1" else {"chunk": 0, "file": 0}
        episode = Episode(i, length, contract.task, store.episode_meta(i), index, place)
        target = path / _data_path(version, place, i)
        target.parent.mkdir(parents=True, exist_ok=True)
        if version == "v2.1":
            pq.write_table(table, target)
        else:
            writer = writer or pq.ParquetWriter(target, table.schema)
            writer.write_table(table)
        for key in images:
            name = their_name(key, contract)
            video = {"chunk": i // CHUNK, "file": i % CHUNK}
            write_frames(path / _video_path(version, name, video, i), arrays[key], contract.rate)
            episode.videos[name] = {**video, "start": 0.0}
        episode.columns = {**columns, **{their_name(k, contract): arrays[k] for k in images}}
        episodes.append(episode.summarized())
        index, offset = index + length, offset + length / contract.rate
    if writer is not None:
        writer.close()
    write_meta(path, version, store, episodes, {their_name(k, contract): k for k in store.keys})


def our_name(key: str) -> str:
    """The key that a LeRobot feature gets here."""
    if key in RENAMED:
        return RENAMED[key]
    if key.startswith("observation.images."):
        return key.removeprefix("observation.images.") + "_image"
    return key.removeprefix("observation.").removeprefix(OURS)


def their_name(key: str, contract: Contract) -> str:
    """The LeRobot feature that one of our keys becomes."""
    back = {ours: theirs for theirs, ours in RENAMED.items()}
    if key == "action":
        return key
    if key in back:
        return back[key]
    if key in contract.image_keys:
        return "observation.images." + key.removesuffix("_image")
    return f"observation.{key}" if key in contract.observations else OURS + key


def _arrays(path: Path, meta: LeRobotMeta, episode: Episode) -> dict[str, np.ndarray]:
    pq = require("pyarrow.parquet", "formats")
    file = path / _data_path(meta.version, episode.place, episode.index)
    filters = None if meta.version == "v2.1" else [("episode_index", "=", episode.index)]
    # partitioning=None: folder names are never read as columns.
    table = pq.read_table(file, filters=filters, partitioning=None)
    if table.num_rows != episode.length:
        raise DataError(
            f"{file} has {table.num_rows} rows for episode {episode.index}, meta says {episode.length}"
        )
    arrays: dict[str, np.ndarray] = {}
    for name, feature in meta.info["features"].items():
        if name in BOOKKEEPING or feature["dtype"] == "string":
            continue
        key = our_name(name)
        if feature["dtype"] == "video":
            video = episode.videos.get(name, {**episode.place, "start": 0.0})
            target = path / _video_path(meta.version, name, video, episode.index)
            arrays[key] = read_frames(target, video["start"], episode.length)
            continue
        if feature["dtype"] == "image":
            raise DataError(
                f"feature '{name}' keeps PNG images in parquet; convert it to video with lerobot first"
            )
        value = np.asarray(table[name].to_pylist(), dtype=np.dtype(feature["dtype"]))
        value = value.reshape(episode.length, *feature["shape"])
        flat = key in ("reward", "terminated", "truncated", "time") or feature.get("scalar", False)
        arrays[key] = value.reshape(-1) if flat else vectors(value)
    return arrays


def _data_path(version: str, place: dict[str, Any], index: int) -> str:
    if version == "v2.1":
        return f"data/chunk-{place['chunk']:03d}/episode_{index:06d}.parquet"
    return f"data/chunk-{place['chunk']:03d}/file-{place['file']:03d}.parquet"


def _video_path(version: str, name: str, place: dict[str, Any], index: int) -> str:
    if "/" in name or name.startswith("."):
        raise DataError(f"'{name}' cannot be the name of a camera")
    if version == "v2.1":
        return f"videos/chunk-{place['chunk']:03d}/{name}/episode_{index:06d}.mp4"
    return f"videos/{name}/chunk-{place['chunk']:03d}/file-{place['file']:03d}.mp4"


def _column(pa: Any, value: np.ndarray) -> Any:
    flat = pa.array(np.ascontiguousarray(value).reshape(-1))
    if value.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(value.shape[1:])))


def _names(feature: dict[str, Any]) -> list[str]:
    """One label an entry, from a list or from LeRobot's {"motors": [...]}; none where they do not fit."""
    names = feature.get("names") or []
    if isinstance(names, dict):
        names = [name for value in names.values() for name in (value if isinstance(value, list) else [])]
    return [str(n) for n in names] if len(names) == int(np.prod(feature["shape"])) else []


def _format(version: str, name: str) -> Format:
    return Format(
        name,
        f"LeRobot {version} (parquet and MP4)",
        lambda path: detect(version, path),
        read,
        lambda store, path: write(version, store, path),
    )


FORMATS = [_format("v2.1", "lerobot_v21"), _format("v3.0", "lerobot_v3")]
