"""A dataset of episodes in one zarr folder: made, appended to and read."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from diffbot.data import layout
from diffbot.data.contract import Contract
from diffbot.data.durable import sync, sync_tree
from diffbot.data.repair import TailReport, committed_ends, inspect_tail, repair_tail
from diffbot.data.writer import Writer, writer_lock
from diffbot.errors import DataError, nearest


class EpisodeStore:
    """Episodes on disk; see `layout` for the arrays. Build one with `create` or `open`.

    A store is a snapshot: episodes that another process commits later are seen after `refresh()`.
    `contract` is absent (None is never returned: reading it raises) in datasets that other tools wrote.
    """

    def __init__(
        self, path: Path, root: zarr.Group, mode: Literal["r", "a"], contract: Contract | None
    ) -> None:
        self.path, self.root, self.mode = path, root, mode
        self._contract = contract
        self.tail = TailReport()
        self.refresh()

    # -- making and opening ---------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        contract: Contract,
        provenance: Mapping[str, Any] | None = None,
        *,
        image_codec: layout.ImageCodec = "zstd",
        zarr_format: Literal[2, 3] = 2,
        independent: bool = False,
    ) -> EpisodeStore:
        """Make an empty store. It appears at `path` whole or not at all; DataError when `path` exists.

        `provenance` says how the episodes came about: any JSON-able dictionary. `independent`: see the property. zarr format 2 is the default because
        the released diffusion-policy tools read no other.
        """
        path = Path(path)
        if path.exists():
            raise DataError(f"{path} exists already. Choose another path, or open it to append")
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.creating")
        try:
            root = zarr.create_group(str(scratch), zarr_format=zarr_format)
            root.attrs.update(
                {
                    "contract": contract.to_dict(),
                    "provenance": dict(provenance or {}),
                    "diffbot": {"layout": 1, "image_codec": image_codec, "independent": independent},
                }
            )
            data, meta = root.create_group(layout.DATA), root.create_group(layout.META)
            for key, field in contract.observations.items():
                image = field.kind == "image"
                layout.create_array(data, key, field.shape, np.dtype(field.dtype), image, image_codec)
            layout.create_array(data, "action", contract.action.shape, np.dtype(contract.action.dtype))
            layout.create_meta(meta, layout.ENDS, (), np.dtype(np.int64))
            sync_tree(scratch)
            os.rename(scratch, path)
            sync([path / name for name in os.listdir(path) if (path / name).is_file()])
        except OSError as error:
            raise DataError(f"cannot make a dataset at {path}: {error}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return cls.open(path, "a")

    @classmethod
    def open(
        cls, path: str | Path, mode: Literal["r", "a"] = "r", *, contract: Contract | None = None
    ) -> EpisodeStore:
        """Open a folder or .zip. Mode "r" never writes; "a" cuts off what a killed writer left, and warns about it.

        `contract` stands in for a missing one (datasets of other tools). What was found and repaired is in `.tail`.
        Raises DataError for anything that is not a readable dataset.
        """
        path = Path(path).resolve()
        if mode not in ("r", "a"):
            raise DataError(f"mode '{mode}' is not one of r, a")
        root = layout.open_root(path, mode)
        stored = root.attrs.get("contract")
        if isinstance(stored, Mapping):
            contract = Contract.from_dict(stored)
        store = cls(path, root, mode, contract)
        if mode == "a" and store.tail:
            try:
                with writer_lock(path):
                    store.tail = repair_tail(root, path)
                    store.refresh(keep_tail=True)
            except DataError:
                # A living writer's episode in flight looks like a torn tail; it is not ours to cut.
                store.refresh()
        return store

    def refresh(self, keep_tail: bool = False) -> None:
        """See the episodes that are committed now."""
        ends = committed_ends(self.root)
        tail = inspect_tail(self.root, ends)
        if not keep_tail:
            self.tail = tail
        ends.setflags(write=False)
        self.episode_ends = ends

    # -- what it holds --------------------------------------------------------------------------------------------

    @property
    def contract(self) -> Contract:
        """What an observation and an action are. Raises DataError when the dataset has none."""
        if self._contract is None:
            raise DataError(
                f"{self.path} carries no contract (another tool wrote it). Import it: diffbot data import"
            )
        return self._contract

    @property
    def has_contract(self) -> bool:
        """Whether `contract` can be read."""
        return self._contract is not None

    @property
    def provenance(self) -> dict[str, Any]:
        """How the episodes came about."""
        value = self.root.attrs.get("provenance", {})
        return dict(value) if isinstance(value, Mapping) else {}

    @property
    def image_codec(self) -> layout.ImageCodec:
        """The codec new image arrays are written with."""
        value = self.root.attrs.get("diffbot", {})
        codec = value.get("image_codec", "zstd") if isinstance(value, Mapping) else "zstd"
        return "jpeg" if codec == "jpeg" else "zstd"

    @property
    def independent(self) -> bool:
        """Whether rows are transitions with nothing to do with their neighbours, as synthesizers write them.

        Each row then has its own next observation in the arrays `next_<key>`, and an episode is just a block of rows.
        """
        value = self.root.attrs.get("diffbot", {})
        return isinstance(value, Mapping) and bool(value.get("independent", False))

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the per-step arrays."""
        return tuple(sorted(layout.subgroup(self.root, layout.DATA).array_keys()))

    @property
    def meta_names(self) -> tuple[str, ...]:
        """Names of the per-episode arrays, without `episode_ends`."""
        names = layout.subgroup(self.root, layout.META).array_keys()
        return tuple(sorted(n for n in names if n != layout.ENDS))

    @property
    def episode_starts(self) -> np.ndarray:
        """int64 [episodes]: the first step of each episode."""
        return np.concatenate([np.zeros(1, np.int64), self.episode_ends[:-1]])[: len(self)]

    @property
    def episode_lengths(self) -> np.ndarray:
        """int64 [episodes]: the number of steps of each episode."""
        return self.episode_ends - self.episode_starts

    @property
    def steps(self) -> int:
        """Number of committed steps."""
        return int(self.episode_ends[-1]) if len(self) else 0

    def __len__(self) -> int:
        return len(self.episode_ends)

    # -- reading --------------------------------------------------------------------------------------------------

    def array(self, key: str) -> zarr.Array[Any]:
        """The array on disk, which may be longer than `steps` while an episode is being written."""
        if key not in self.keys:
            raise DataError(
                f"{self.path} has no key '{key}'.{_hint(key, self.keys)} It has: {', '.join(self.keys)}"
            )
        return layout.array(self.root, f"{layout.DATA}/{key}")

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        """Steps start..stop-1 of one key, [stop - start, ...]."""
        if not 0 <= start <= stop <= self.steps:
            raise DataError(f"steps {start}..{stop} are not within 0..{self.steps}")
        return np.asarray(self.array(key)[start:stop])

    def episode(self, index: int, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """All per-step arrays [T, ...] of one episode, or only `keys`."""
        if not -len(self) <= index < len(self):
            raise DataError(f"no episode {index}: {self.path} has {len(self)}")
        index %= len(self)
        start, stop = int(self.episode_starts[index]), int(self.episode_ends[index])
        return {key: self.read(key, start, stop) for key in (self.keys if keys is None else keys)}

    def load(self, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """All committed steps of the given keys (default: all) in RAM, [steps, ...]."""
        return {key: self.read(key, 0, self.steps) for key in (self.keys if keys is None else keys)}

    def meta(self, name: str) -> np.ndarray:
        """One per-episode array, [episodes, ...]."""
        if name not in self.meta_names:
            known = ", ".join(self.meta_names) or "(none)"
            raise DataError(
                f"{self.path} has no meta '{name}'.{_hint(str(name), self.meta_names)} It has: {known}"
            )
        return np.asarray(layout.array(self.root, f"{layout.META}/{name}")[: len(self)])

    def episode_meta(self, index: int) -> dict[str, Any]:
        """All per-episode values of one episode."""
        return {name: self.meta(name)[index] for name in self.meta_names}

    # -- writing --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """Hold the writer lock and append episodes. DataError when another process is writing or mode is "r".

        Any torn tail is repaired under the lock before the first append.
        """
        if self.mode != "a":
            raise DataError(
                f"{self.path} is open for reading. Open it for appending: EpisodeStore.open(path, 'a')"
            )
        with writer_lock(self.path):
            self.refresh()
            if self.tail:
                self.tail = repair_tail(self.root, self.path)
                self.refresh(keep_tail=True)
            try:
                yield Writer(self.path, self.root, self.contract, self.image_codec, self.episode_ends)
            finally:
                self.refresh(keep_tail=True)

    def append(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any] | None = None) -> int:
        """Write one episode and return its index; see `Writer.append`."""
        with self.writer() as writer:
            return writer.append(arrays, meta)


def _hint(name: str, choices: Iterable[str]) -> str:
    match = nearest(name, choices)
    return f" Did you mean '{match}'?" if match else ""
