"""Camera frames in MP4 files, read back exactly when they were written here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from diffbot.errors import DataError, require


def write_frames(path: Path, frames: np.ndarray, rate: float) -> None:
    """Write uint8 [T, H, W, 3] as lossless RGB H.264: what is read back is bit-identical."""
    av = require("av", "formats", "video files")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264rgb", rate=Fraction(rate).limit_denominator(1000), options={"crf": "0", "g": "2"}
        )
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "rgb24"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def read_frames(path: Path, start: float, count: int) -> np.ndarray:
    """`count` frames from `start` seconds on, uint8 [count, H, W, 3]. Raises DataError when the file has fewer."""
    av = require("av", "formats", "video files")
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise DataError(f"{path} has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        half = 0.5 / float(stream.average_rate or 1)
        if start > 0:
            container.seek(int(start / stream.time_base), stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= start - half:
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    break
    if len(frames) != count:
        raise DataError(f"{path} has {len(frames)} frames from {start:g} s on, the dataset needs {count}")
    return np.stack(frames)
