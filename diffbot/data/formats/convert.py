"""Import and export: whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from diffbot.data.formats.base import Format, ImportOptions
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError, DiffbotError

Progress = Callable[[int, int], None]


def import_dataset(
    path: Path,
    out: Path,
    entry: Format,
    options: ImportOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> EpisodeStore:
    """Read a foreign dataset into a new episode store at `out`, which appears complete or not at all.

    Raises DataError for a damaged file; nothing is left behind then.
    """
    if out.exists():
        raise DataError(f"{out} exists already. Choose another path: out=...")
    scratch = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.importing")
    try:
        with damaged(path, entry):
            source = entry.read(path, options or ImportOptions())
            provenance = {"imported_from": entry.name, "file": path.name, **source.provenance}
            store = EpisodeStore.create(scratch, source.contract, provenance)
            with store.writer() as writer:
                for i, (arrays, meta) in enumerate(source.episodes()):
                    writer.append(arrays, meta)
                    progress(i + 1, source.count)
        if len(store) == 0:
            raise DataError(f"{path} holds no episodes")
        os.rename(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.with_name(f".{scratch.name}.lock").unlink(missing_ok=True)
    return EpisodeStore.open(out)


def export_dataset(store: EpisodeStore, out: Path, entry: Format) -> None:
    """Write a store in a foreign format at `out`, complete or not at all."""
    if entry.write is None:
        raise DataError(f"the format '{entry.name}' can be read but not written")
    if out.exists():
        raise DataError(f"{out} exists already. Choose another path: out=...")
    if len(store) == 0:
        raise DataError(f"{store.path} has no episodes to export")
    # The suffix decides between folder and archive in some formats, so the scratch name keeps it.
    scratch = out.with_name(f".{uuid.uuid4().hex[:8]}.exporting.{out.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        entry.write(store, scratch)
        os.rename(scratch, out)
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch)
        else:
            scratch.unlink(missing_ok=True)


class damaged:  # noqa: N801 - reads as a word: `with damaged(path, entry):`
    """Turns whatever a third-party reader raises over a damaged file into one DataError that names the file.

    Parsers of foreign bytes raise almost anything (OSError, KeyError, struct.error, their own); all of it means that the
    file cannot be read. Errors that already speak to the user pass through, and so do interrupts and lack of memory.
    """

    def __init__(self, path: Path, entry: Format) -> None:
        self.path, self.entry = path, entry

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, DiffbotError) or not isinstance(error, Exception):
            return
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{self.path} cannot be read as {self.entry.name}: {detail}") from error
