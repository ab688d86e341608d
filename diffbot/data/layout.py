"""Where the arrays of a dataset lie on disk: zarr folders and zip files, formats 2 and 3.

The layout is the one that diffusion-policy tools read: `data/<key>` holds the steps of all episodes one after the
other, `meta/episode_ends` the exclusive end of each episode, `meta/<name>` one value for each episode.
"""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import zarr
from numcodecs import Blosc
from zarr.abc.store import Store
from zarr.codecs import BloscCodec
from zarr.errors import GroupNotFoundError, NodeNotFoundError
from zarr.storage import ZipStore

from diffbot.data.codecs import Jpeg
from diffbot.data.durable import DurableStore
from diffbot.errors import DataError, unknown

DATA, META, ENDS = "data", "meta", "episode_ends"
ImageCodec = Literal["zstd", "jpeg"]

FRAMES_PER_CHUNK = 16
STATE_CHUNK_BYTES = 256 * 1024
EPISODES_PER_CHUNK = 4096


def open_root(path: Path, mode: Literal["r", "a"]) -> zarr.Group:
    """The zarr group that holds `data` and `meta`, of a folder or a .zip file.

    A .zip is only ever read in place: nothing is unpacked, so no member name can reach outside of it.
    Raises DataError when there is no such group.
    """
    if not path.exists():
        raise DataError(f"no dataset at {path}. Make one: diffbot collect, or diffbot data import")
    store, prefix = _store(path, mode)
    try:
        root = zarr.open_group(store, mode="r" if mode == "r" else "r+", path=prefix)
    except (GroupNotFoundError, NodeNotFoundError, FileNotFoundError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a zarr dataset: {error}") from error
    for name in (DATA, f"{META}/{ENDS}"):
        if name not in root:
            raise DataError(f"{path} is not a dataset: it lacks the zarr node '{name}'")
    return root


def array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """The array `name` of `group`. Raises DataError when it is missing or is a group."""
    node = group.get(name)
    if not isinstance(node, zarr.Array):
        raise DataError(f"the dataset has no array '{group.path}/{name}'")
    return node


def subgroup(root: zarr.Group, name: str) -> zarr.Group:
    """The group `name` of `root`. Raises DataError when it is missing or is an array."""
    node = root.get(name)
    if not isinstance(node, zarr.Group):
        raise DataError(f"the dataset has no group '{name}'")
    return node


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    image: bool = False,
    codec: ImageCodec = "zstd",
) -> None:
    """Add an empty per-step array for rows of `shape`."""
    chunks = chunk_shape(shape, dtype, image, codec)
    _create(group, name, shape, dtype, chunks, _compressor(group, image, codec, dtype))


def create_meta(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Add an empty array of one row for each episode."""
    _create(group, name, shape, dtype, (EPISODES_PER_CHUNK, *shape), _compressor(group, False, "zstd", dtype))


def _create(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    chunks: tuple[int, ...],
    compressor: Any,
) -> None:
    if dtype.kind in "OUT":
        kind, fill = str, ""
    else:
        kind, fill = dtype, np.zeros((), dtype).item()  # type: ignore[assignment]
    # Empty chunks are written too, so that a missing chunk is always a fault.
    config: Any = {"write_empty_chunks": True}
    group.create_array(
        name,
        shape=(0, *shape),
        chunks=chunks,
        dtype=kind,
        fill_value=fill,
        compressors=(compressor,),
        config=config,
    )


def chunk_shape(shape: tuple[int, ...], dtype: np.dtype, image: bool, codec: ImageCodec) -> tuple[int, ...]:
    """Rows of a chunk: 16 frames for lossless images, 1 for JPEG (its codec takes one image), else about 256 KiB."""
    if image:
        return (1 if codec == "jpeg" else FRAMES_PER_CHUNK, *shape)
    row = max(1, int(np.prod(shape)) * dtype.itemsize)
    return (int(np.clip(STATE_CHUNK_BYTES // row, 64, 8192)), *shape)


def _compressor(group: zarr.Group, image: bool, codec: ImageCodec, dtype: np.dtype) -> Any:
    shuffle = not image and dtype.itemsize > 1
    if image and codec not in ("zstd", "jpeg"):
        raise unknown("image codec", codec, ("zstd", "jpeg"))
    if image and codec == "jpeg":
        if dtype != np.uint8 or group.metadata.zarr_format != 2:
            raise DataError(f"the JPEG codec needs uint8 images and zarr format 2, got {dtype}")
        return Jpeg()
    if group.metadata.zarr_format == 3:
        return BloscCodec(cname="zstd", clevel=3, shuffle="shuffle" if shuffle else "noshuffle")
    return Blosc("zstd", 3, Blosc.SHUFFLE if shuffle else Blosc.NOSHUFFLE)


def _store(path: Path, mode: Literal["r", "a"]) -> tuple[Store, str]:
    """The zarr store and the path of the group in it."""
    if path.is_dir():
        return DurableStore(path, read_only=mode == "r"), ""
    if mode != "r":
        raise DataError(
            f"{path} is a zip file, which can only be read. Unpack or import it to a folder to change it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(n) for n in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is neither a zarr folder nor a readable zip file: {error}") from error
    for name in names:
        if name.is_absolute() or ".." in name.parts:
            raise DataError(f"{path} has a member named '{name}', which points outside of the archive")
    roots = {str(n.parent.parent.parent) for n in names if n.parts[-3:-1] == (META, ENDS)}
    if len(roots) != 1:
        raise DataError(
            f"{path} holds {len(roots)} datasets (groups with meta/episode_ends), needs exactly 1"
        )
    prefix = roots.pop()
    return ZipStore(path, mode="r", read_only=True), "" if prefix == "." else prefix
