"""Writing that survives a power cut: what was reported as stored is on the disk, and what was there before stays whole."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

THREADS = 8  # the file system commits what threads ask for at once together


class DurableStore(LocalStore):
    """A zarr folder in which a file that exists is replaced on the disk at once, and new ones get there with `settle`.

    Chunks hold rows of many episodes, so the chunk that a new episode ends up in must never be half replaced.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._fresh: set[Path] = set()

    async def set(self, key: str, value: Buffer) -> None:
        """Write the file `key`."""
        path = self.root / key
        if path.exists():
            self._check_writable()
            await asyncio.to_thread(replace_on_disk, path, value.as_buffer_like())
        else:
            await super().set(key, value)
            self._fresh.add(path)

    def settle(self) -> None:
        """Return when all files written so far are on the disk."""
        fresh, self._fresh = self._fresh, set()
        sync([path for path in fresh if path.exists()])


def replace_on_disk(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Put `content` in the place of the file at `path`: after a power cut it holds the old or the new content, whole."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def sync(files: Iterable[Path]) -> None:
    """Return when these files, and their names in their folders, are on the disk."""
    files = list(files)
    folders = {folder for file in files for folder in (file.parent, file.parent.parent)}
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(_sync, files))
        list(pool.map(_sync, folders))


def sync_tree(folder: Path) -> None:
    """`sync` for all files below a folder."""
    sync(path for path in folder.rglob("*") if path.is_file())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
