"""Rollout frames as an MP4 file and as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffbot.errors import DataError, require


def write_video(path: Path, frames: Sequence[np.ndarray], rate: float) -> None:
    """Write RGB frames (uint8 [height, width, 3], even sizes, all alike) as H.264 at `rate` Hz."""
    if not frames:
        raise DataError(f"no frames to write to {path}")
    height, width, channels = frames[0].shape
    if channels != 3 or height % 2 or width % 2:
        raise DataError(f"video frames must be RGB with even sides, got {frames[0].shape}")
    av = require("av", "sim", "writing videos")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(rate))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def contact_sheet(episodes: Sequence[Sequence[np.ndarray]], columns: int = 6) -> np.ndarray:
    """One row of `columns` evenly spaced frames for each episode: uint8 [rows * height, columns * width, 3]."""
    rows = []
    for frames in episodes:
        picks = np.linspace(0, len(frames) - 1, columns).round().astype(int)
        rows.append(np.concatenate([frames[i] for i in picks], axis=1))
    return np.concatenate(rows, axis=0)
