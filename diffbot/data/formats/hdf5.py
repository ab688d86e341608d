"""What the HDF5 formats share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffbot.errors import require

MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == MAGIC


def open_hdf5(path: Path, mode: str = "r") -> Any:
    """Open with h5py; external links are never followed because only plain members are read."""
    return require("h5py", "formats", "HDF5 files").File(path, mode)


def plain_attribute(attributes: Any, name: str, default: Any) -> Any:
    """An attribute with bytes decoded, or the default."""
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else value
