"""What the HDF5 formats share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffbot.errors import DataError, require

MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == MAGIC


def open_hdf5(path: Path, mode: str = "r") -> Any:
    """Open with h5py. Raises DataError for a file that reaches into other files (external links, raw or virtual storage)."""
    h5py = require("h5py", "formats", "HDF5 files")
    file = h5py.File(path, mode)
    if mode == "r":
        try:
            _refuse_outside(file, h5py, path)
        except BaseException:
            file.close()
            raise
    return file


def _refuse_outside(file: Any, h5py: Any, path: Path) -> None:
    # h5py cannot carry an exception out of a visitor, but it hands on the first value that is not None.
    def link(name: str, value: Any) -> str | None:
        if isinstance(value, h5py.ExternalLink):
            return f"'{name}' links to another file ({value.filename})"
        return None

    def node(name: str, value: Any) -> str | None:
        if isinstance(value, h5py.Dataset) and (value.external or value.is_virtual):
            return f"'{name}' keeps its data in other files"
        return None

    found = file.visititems_links(link) or file.visititems(node)
    if found:
        raise DataError(f"{path}: {found}; such files are refused")


def plain_attribute(attributes: Any, name: str, default: Any) -> Any:
    """An attribute with bytes decoded, or the default."""
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else value
