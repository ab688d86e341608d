"""JPEG as a zarr compressor, under the name and byte format that `imagecodecs` and UMI-style datasets use."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.registry import codec_registry, register_codec

from diffbot.errors import require


class Jpeg(Codec):
    """Lossy compression of one uint8 image (height, width, 3 or 1); quality `level` is 1 to 100.

    A chunk holds exactly one frame. Files written here open wherever `imagecodecs.numcodecs` is installed.
    """

    codec_id = "imagecodecs_jpeg"

    def __init__(self, level: int | None = 95, **others: Any) -> None:
        self.level = 95 if level is None else int(level)
        self.others = others

    def get_config(self) -> dict[str, Any]:
        """What zarr stores in the array's metadata."""
        return {"id": self.codec_id, "level": self.level, **self.others}

    def encode(self, buf: Any) -> bytes:
        """One image [1, H, W, C] to JPEG bytes, without chroma subsampling."""
        image = np.asarray(buf)
        image = image.reshape(image.shape[-3:])
        if image.shape[-1] == 1:
            image = image[..., 0]
        out = io.BytesIO()
        _pillow().fromarray(image).save(out, format="JPEG", quality=self.level, subsampling=0)
        return out.getvalue()

    def decode(self, buf: Any, out: Any = None) -> Any:
        """JPEG bytes to a flat uint8 image, into `out` where given."""
        with _pillow().open(io.BytesIO(bytes(buf)), formats=("JPEG",)) as file:
            image = np.asarray(file)
        if out is None:
            return np.ascontiguousarray(image)
        np.asarray(out).reshape(image.shape)[...] = image
        return out


def _pillow() -> Any:
    return require("PIL.Image", "sim", "JPEG images")


if Jpeg.codec_id not in codec_registry:
    register_codec(Jpeg)
