"""Appending episodes: all rows first, then one atomic step that makes the episode exist."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout

from diffbot.data import layout
from diffbot.data.contract import Contract
from diffbot.data.durable import DurableStore
from diffbot.data.repair import cut
from diffbot.errors import DataError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the only right to change the store at `path`.

    The operating system lets go of the lock when the process ends, however it ends. It lies beside the store, as
    zarr warns about files in a group that it does not know. Raises DataError when another writer holds it.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise DataError(
            f"another process is writing to {path}. Wait for it, or write to another dataset"
        ) from error
    try:
        yield
    finally:
        lock.release()


class Writer:
    """Appends episodes to one store; made by `EpisodeStore.writer()`, which holds the lock."""

    def __init__(
        self, path: Path, root: zarr.Group, contract: Contract, codec: layout.ImageCodec, ends: np.ndarray
    ) -> None:
        self._path, self._root, self._contract, self._codec = path, root, contract, codec
        self._data, self._meta = (layout.subgroup(root, name) for name in (layout.DATA, layout.META))
        self._ends = ends.copy()

    def append(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any] | None = None) -> int:
        """Write one episode and return its index. When this returns the episode is committed.

        arrays: every observation key and `action`, each [T, *shape] with the contract's dtype, and any others (`reward`
        [T], `terminated` [T], `time` [T] in seconds, `sim_state` [T, N], ...). meta: one number, string or
        fixed-shape array for each name. All episodes of a store have the same keys and names.
        Raises DataError or ContractError before anything is written when the episode does not fit; on a full disk
        raises DataError, and the store keeps all earlier episodes.
        """
        rows = {key: np.asarray(value) for key, value in arrays.items()}
        values = {name: np.asarray(value) for name, value in (meta or {}).items()}
        length = self._check(rows, values)
        try:
            return self._write(rows, values, length)
        except OSError as error:
            with contextlib.suppress(OSError):  # a tail that cannot be cut now is cut by the next writer
                cut(self._root, self._ends)
            why = "the disk is full" if error.errno in NO_SPACE else f"writing failed ({error})"
            raise DataError(
                f"{why}: episode {len(self._ends)} was not stored in {self._path}. The {len(self._ends)} episodes before "
                "it are safe. Free space and append it again"
            ) from error

    def _write(self, rows: dict[str, np.ndarray], values: dict[str, np.ndarray], length: int) -> int:
        episodes = len(self._ends)
        steps = int(self._ends[-1]) if episodes else 0
        if episodes == 0:
            self._forget_optional()
        for key, value in rows.items():
            if key not in self._data:
                field = self._contract.observations.get(key)
                image = field is not None and field.kind == "image"
                layout.create_array(self._data, key, value.shape[1:], value.dtype, image, self._codec)
            self._extend(layout.array(self._data, key), steps, value)
        for name, value in values.items():
            if name not in self._meta:
                layout.create_meta(self._meta, name, value.shape, value.dtype)
            self._extend(layout.array(self._meta, name), episodes, value[None])
        self._settle()
        # The commit. Growing the array adds a zero, which readers ignore; writing the chunk is one atomic rename.
        self._extend(layout.array(self._meta, layout.ENDS), episodes, np.array([steps + length], np.int64))
        self._settle()
        self._ends = np.append(self._ends, steps + length)
        return episodes

    def _settle(self) -> None:
        """Return when all that was written is on the disk: rows before the commit, and the commit before its report."""
        store = self._root.store
        if isinstance(store, DurableStore):
            store.settle()

    def _forget_optional(self) -> None:
        """Drop arrays of a first episode that was never committed; the first committed one decides which there are."""
        for key in set(self._data.array_keys()) - set(self._contract.observations) - {"action"}:
            del self._data[key]
        for name in set(self._meta.array_keys()) - {layout.ENDS}:
            del self._meta[name]

    @staticmethod
    def _extend(node: zarr.Array[Any], start: int, value: np.ndarray) -> None:
        stop = start + len(value)
        if value.dtype.kind in "OUT":
            value = value.astype(object)
        node.resize((stop, *node.shape[1:]))
        with zarr.config.set({"array.write_empty_chunks": True}):
            node[start:stop] = value

    def _check(self, rows: dict[str, np.ndarray], values: dict[str, np.ndarray]) -> int:
        """The episode's length, or an error that says what does not fit."""
        self._contract.check_observation(rows, batch_dims=1)
        if "action" not in rows:
            raise DataError(f"the episode lacks 'action'; it has: {', '.join(rows)}")
        self._contract.action.check("action", rows["action"], batch_dims=1)
        lengths = {key: len(value) if value.ndim else -1 for key, value in rows.items()}
        if len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
            raise DataError(f"all arrays of an episode need one positive length, got {lengths}")
        first = len(self._ends) == 0
        self._check_group(self._data, "keys", rows, 1, first)
        self._check_group(self._meta, "meta names", values, 0, first)
        return len(rows["action"])

    def _check_group(
        self, group: zarr.Group, what: str, values: dict[str, np.ndarray], lead: int, first: bool
    ) -> None:
        stored = {name: node for name, node in group.arrays() if name != layout.ENDS}
        for name in values:
            if not name or name == layout.ENDS or not set(name) <= _NAME or name.startswith("."):
                raise DataError(
                    f"'{name}' cannot be one of the {what}: use letters, digits, _, -, and inner dots"
                )
        if not first and set(stored) != set(values):
            raise DataError(
                f"{what} of this episode differ from the store's: missing {sorted(set(stored) - set(values))}, "
                f"new {sorted(set(values) - set(stored))}"
            )
        if first:
            return
        for name, node in stored.items():
            value = values[name]
            text = value.dtype.kind in "OUT" and node.dtype.kind in "OUT"
            if value.shape[lead:] != node.shape[1:] or not (
                text or np.can_cast(value.dtype, node.dtype, "safe")
            ):
                raise DataError(
                    f"'{name}' is {value.dtype} {value.shape[lead:]}, the store has {node.dtype} {node.shape[1:]}"
                )


_NAME = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
