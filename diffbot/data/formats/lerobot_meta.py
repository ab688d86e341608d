"""The meta/ folder of LeRobot datasets: info, tasks, episodes and statistics of v2.1 and v3.0."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError, require

CHUNK = 1000
VERSIONS = ("v2.1", "v3.0")


@dataclass
class Episode:
    """One episode's entry. place: chunk and file of its rows; videos: the same and the start in seconds, by feature."""

    index: int
    length: int
    task: str
    extra: dict[str, Any]
    first: int
    place: dict[str, Any]
    videos: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)

    def summarized(self) -> Episode:
        """With statistics in place of the columns."""
        self.statistics = {name: statistics(value) for name, value in self.columns.items()}
        self.columns = {}
        return self


@dataclass
class LeRobotMeta:
    """The whole meta/ folder."""

    version: str
    info: dict[str, Any]
    episodes: list[Episode]


def read_meta(path: Path) -> LeRobotMeta:
    """Read meta/. Raises DataError for a version that is not known."""
    info = json.loads((path / "meta" / "info.json").read_text())
    version = info.get("codebase_version", "")
    if version not in VERSIONS:
        raise DataError(
            f"{path} is LeRobot '{version}'; known are {', '.join(VERSIONS)}. Convert it with lerobot first"
        )
    return LeRobotMeta(version, info, _old(path) if version == "v2.1" else _new(path, info))


def write_meta(
    path: Path, version: str, store: EpisodeStore, episodes: list[Episode], keys: dict[str, str]
) -> None:
    """Write meta/ for a store whose data and videos are written. keys: our key by feature name."""
    folder = path / "meta"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "info.json").write_text(json.dumps(_info(version, store, keys), indent=1))
    task = store.contract.task
    if version == "v2.1":
        _jsonl(folder / "tasks.jsonl", [{"task_index": 0, "task": task}])
        _jsonl(
            folder / "episodes.jsonl",
            [
                {"episode_index": e.index, "tasks": [task], "length": e.length, "diffbot_meta": _plain(e)}
                for e in episodes
            ],
        )
        rows = [{"episode_index": e.index, "stats": e.statistics} for e in episodes]
        _jsonl(folder / "episodes_stats.jsonl", rows)
        return
    pa, pq = require("pyarrow", "formats"), require("pyarrow.parquet", "formats")
    pq.write_table(pa.table({"task_index": [0], "task": [task]}), folder / "tasks.parquet")
    table: dict[str, list[Any]] = {}
    for e in episodes:
        row: dict[str, Any] = {
            "episode_index": e.index,
            "tasks": [task],
            "length": e.length,
            "dataset_from_index": e.first,
            "dataset_to_index": e.first + e.length,
            "data/chunk_index": e.place["chunk"],
            "data/file_index": e.place["file"],
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            "diffbot_meta": json.dumps(_plain(e)),
        }
        for name, video in e.videos.items():
            row[f"videos/{name}/chunk_index"] = video["chunk"]
            row[f"videos/{name}/file_index"] = video["file"]
            row[f"videos/{name}/from_timestamp"] = video["start"]
            row[f"videos/{name}/to_timestamp"] = video["start"] + e.length / store.contract.rate
        for name, values in e.statistics.items():
            row |= {f"stats/{name}/{kind}": value for kind, value in values.items()}
        for name, value in row.items():
            table.setdefault(name, []).append(value)
    target = folder / "episodes" / "chunk-000" / "file-000.parquet"
    target.parent.mkdir(parents=True)
    pq.write_table(pa.table(table), target)
    (folder / "stats.json").write_text(json.dumps(_total(store, episodes)))


def statistics(value: np.ndarray) -> dict[str, Any]:
    """min, max, mean, std and count over the steps; images in [0, 1] by channel, shape (3, 1, 1)."""
    axes: tuple[int, ...] = (0,)
    data = value.astype(np.float64)
    if value.ndim == 4:
        axes, data = (0, 1, 2), data / 255.0
    found = {"min": data.min(axes), "max": data.max(axes), "mean": data.mean(axes), "std": data.std(axes)}
    shape = (-1, 1, 1) if value.ndim == 4 else (-1,)
    return {k: np.asarray(v).reshape(shape).tolist() for k, v in found.items()} | {"count": [len(value)]}


def _old(path: Path) -> list[Episode]:
    episodes, first = [], 0
    for line in (path / "meta" / "episodes.jsonl").read_text().splitlines():
        row = json.loads(line)
        index, length = int(row["episode_index"]), int(row["length"])
        place = {"chunk": index // CHUNK, "file": index}
        task = (row.get("tasks") or [""])[0]
        episodes.append(Episode(index, length, task, row.get("diffbot_meta", {}), first, place))
        first += length
    return episodes


def _new(path: Path, info: dict[str, Any]) -> list[Episode]:
    pq = require("pyarrow.parquet", "formats")
    videos = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    episodes = []
    for file in sorted((path / "meta" / "episodes").glob("chunk-*/file-*.parquet")):
        for row in pq.read_table(file, partitioning=None).to_pylist():
            place = {"chunk": row["data/chunk_index"], "file": row["data/file_index"]}
            found = {
                name: {
                    "chunk": row[f"videos/{name}/chunk_index"],
                    "file": row[f"videos/{name}/file_index"],
                    "start": row[f"videos/{name}/from_timestamp"],
                }
                for name in videos
            }
            extra = json.loads(row.get("diffbot_meta") or "{}")
            index, length, first = row["episode_index"], row["length"], row["dataset_from_index"]
            episodes.append(Episode(index, length, (row.get("tasks") or [""])[0], extra, first, place, found))
    return episodes


def _info(version: str, store: EpisodeStore, keys: dict[str, str]) -> dict[str, Any]:
    contract, videos = store.contract, len(store.contract.image_keys)
    features: dict[str, Any] = {}
    for name, key in keys.items():
        array = store.array(key)
        if key in contract.image_keys:
            entry: dict[str, Any] = {
                "dtype": "video",
                "shape": list(array.shape[1:]),
                "names": ["height", "width", "channel"],
            }
            entry["info"] = {
                "video.fps": contract.rate,
                "video.codec": "h264",
                "video.pix_fmt": "gbrp",
                "has_audio": False,
            }
        else:
            spec = contract.action if key == "action" else contract.observations.get(key)
            entry = {"dtype": str(array.dtype), "shape": list(array.shape[1:]) or [1], "names": None}
            if spec is not None and spec.names:
                entry["names"] = list(spec.names)
            if array.ndim == 1:
                entry["scalar"] = True
        features[name] = entry
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    rate = int(contract.rate) if float(contract.rate).is_integer() else contract.rate
    info: dict[str, Any] = {
        "codebase_version": version,
        "robot_type": store.provenance.get("robot_type", "unknown"),
        "total_episodes": len(store),
        "total_frames": store.steps,
        "total_tasks": 1,
        "chunks_size": CHUNK,
        "fps": rate,
        "splits": {"train": f"0:{len(store)}"},
        "features": features,
        "diffbot_contract": contract.to_dict(),
    }
    if version == "v2.1":
        info |= {
            "total_videos": len(store) * videos,
            "total_chunks": -(-len(store) // CHUNK),
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        }
    else:
        info |= {
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        }
    return info


def _total(store: EpisodeStore, episodes: list[Episode]) -> dict[str, Any]:
    """Statistics of the whole dataset from those of its episodes."""
    total: dict[str, Any] = {}
    for name in episodes[0].statistics:
        rows = [e.statistics[name] for e in episodes]
        weight = np.array([row["count"][0] for row in rows], np.float64)
        stack = {
            kind: np.array([row[kind] for row in rows], np.float64) for kind in ("min", "max", "mean", "std")
        }
        shares = (weight / weight.sum()).reshape(-1, *[1] * (stack["mean"].ndim - 1))
        mean = (shares * stack["mean"]).sum(0)
        variance = (shares * (stack["std"] ** 2 + stack["mean"] ** 2)).sum(0) - mean**2
        total[name] = {
            "min": stack["min"].min(0).tolist(),
            "max": stack["max"].max(0).tolist(),
            "mean": mean.tolist(),
            "std": np.sqrt(np.maximum(variance, 0)).tolist(),
            "count": [store.steps],
        }
    return total


def _plain(episode: Episode) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in episode.extra.items()}


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
