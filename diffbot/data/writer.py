"""Appending episodes: all rows first, then one atomic step that makes the episode exist."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
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
        self._nodes: dict[str, dict[str, zarr.Array[Any]]] = {}

    def append(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any] | None = None) -> int:
        """Write one episode and return its index. When this returns the episode is committed.

        arrays: every observation key and `action`, each [T, *shape] with the contract's dtype, and any others (`reward`
        [T], `terminated` [T], `time` [T] in seconds, `sim_state` [T, N], ...). meta: one number, string or
        fixed-shape array for each name. All episodes of a store have the same keys and names.
        Raises DataError or ContractError before anything is written when the episode does not fit; on a full disk
        raises DataError, and the store keeps all earlier episodes.
        """
        return self.append_all([(arrays, meta)])[0]

    def append_all(
        self, episodes: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, Any] | None]]
    ) -> range:
        """`append` for several episodes; returns their indices.

        Short episodes are written much faster so: each array is written once for all of them. They are committed
        together (where a chunk of `episode_ends` is full, those before and those after it), so an error keeps a
        beginning of them at most.
        """
        first = len(self._ends)
        # The first of all decides what the others are held against. One chunk of ends is one commit.
        chunk = self._arrays(self._meta)[layout.ENDS].chunks[0]
        room = chunk - first % chunk if first else 1
        if len(episodes) > room:
            self.append_all(episodes[:room])
            self.append_all(episodes[room:])
            return range(first, first + len(episodes))
        checked = []
        for arrays, meta in episodes:
            rows = {key: np.asarray(value) for key, value in arrays.items()}
            values = {name: np.asarray(value) for name, value in (meta or {}).items()}
            checked.append((rows, values, self._check(rows, values)))
        if not checked:
            return range(first, first)
        try:
            self._write(*(list(part) for part in zip(*checked, strict=True)))
        except OSError as error:
            self._nodes.clear()
            with contextlib.suppress(OSError):  # a tail that cannot be cut now is cut by the next writer
                cut(self._root, self._ends)
            why = "the disk is full" if error.errno in NO_SPACE else f"writing failed ({error})"
            which = f"episode {first} was" if len(checked) == 1 else f"episodes {first} and on were"
            raise DataError(
                f"{why}: {which} not stored in {self._path}. The {first} episodes before "
                "are safe. Free space and append again"
            ) from error
        return range(first, first + len(checked))

    def _write(
        self, rows: list[dict[str, np.ndarray]], values: list[dict[str, np.ndarray]], lengths: list[int]
    ) -> None:
        episodes = len(self._ends)
        steps = int(self._ends[-1]) if episodes else 0
        if episodes == 0:
            self._forget_optional()
        for key, value in rows[0].items():
            if key not in self._arrays(self._data):
                field = self._contract.observations.get(key)
                image = field is not None and field.kind == "image"
                layout.create_array(self._data, key, value.shape[1:], value.dtype, image, self._codec)
                self._nodes.pop(self._data.path)
            every = value if len(rows) == 1 else np.concatenate([row[key] for row in rows])
            self._extend(self._arrays(self._data)[key], steps, every)
        for name, value in values[0].items():
            if name not in self._arrays(self._meta):
                layout.create_meta(self._meta, name, value.shape, value.dtype)
                self._nodes.pop(self._meta.path)
            self._extend(self._arrays(self._meta)[name], episodes, np.stack([v[name] for v in values]))
        self._settle()
        # The commit. Growing the array adds zeros, which readers ignore; writing the chunk is one atomic rename.
        ends = steps + np.cumsum(lengths, dtype=np.int64)
        self._extend(self._arrays(self._meta)[layout.ENDS], episodes, ends)
        self._settle()
        self._ends = np.append(self._ends, ends)

    def _arrays(self, group: zarr.Group) -> dict[str, zarr.Array[Any]]:
        """The arrays of `group` by name. Kept, as to look for them anew costs more than to write a short episode."""
        if group.path not in self._nodes:
            self._nodes[group.path] = dict(group.arrays())
        return self._nodes[group.path]

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
        self._nodes.clear()

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
        stored = {name: node for name, node in self._arrays(group).items() if name != layout.ENDS}
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
