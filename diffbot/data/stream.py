"""Images that do not fit into RAM: read by chunks, decoded by threads, the latest kept."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.data import layout
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError

CACHE_BYTES = 1 << 30


class StreamedArray:
    """Windows of one key straight from its chunks. `cache_bytes` bounds the decoded chunks that are kept.

    The decoding threads belong to `pool`; a batch asks for every chunk once, and all of its chunks are decoded at the
    same time. Padding is by clipping to the episode, as in RAM.
    """

    def __init__(
        self, store: EpisodeStore, key: str, pool: ThreadPoolExecutor, cache_bytes: int = CACHE_BYTES
    ) -> None:
        node = store.array(key)
        self.shape, self.dtype, self.rows = node.shape[1:], node.dtype, int(node.chunks[0])
        self._first = torch.from_numpy(store.episode_starts.copy())
        self._last = torch.from_numpy(store.episode_ends - 1)
        self._read, self._pool = _chunk_reader(store, key), pool
        chunk_bytes = self.rows * int(np.prod(self.shape)) * self.dtype.itemsize
        self._most = max(1, cache_bytes // max(1, chunk_bytes))
        self._cache: OrderedDict[int, Future[np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def windows(self, step: Tensor, episode: Tensor, shift: int, length: int, stride: int) -> Tensor:
        """Rows step+shift, step+shift+stride, ... of each, [B, length, ...], clipped to the episode."""
        wanted = step[:, None] + shift + stride * torch.arange(length)
        clipped = torch.minimum(
            torch.maximum(wanted, self._first[episode][:, None]), self._last[episode][:, None]
        )
        return torch.from_numpy(self.take(clipped.numpy()))

    def take(self, steps: np.ndarray) -> np.ndarray:
        """Rows at `steps` (any shape), [*steps.shape, ...]."""
        flat = steps.reshape(-1)
        out = np.empty((len(flat), *self.shape), self.dtype)
        chunk = flat // self.rows
        order = np.argsort(chunk, kind="stable")
        numbers, begins = np.unique(chunk[order], return_index=True)
        places = np.split(order, begins[1:])
        # No more chunks at once than the cache holds, so that memory stays bounded.
        for at in range(0, len(numbers), self._most):
            part = numbers[at : at + self._most].tolist()
            for number, place, future in zip(
                part, places[at : at + self._most], self._request(part), strict=True
            ):
                out[place] = future.result()[flat[place] - number * self.rows]
        return out.reshape(*steps.shape, *self.shape)

    def _request(self, numbers: Sequence[int]) -> list[Future[np.ndarray]]:
        futures = []
        with self._lock:
            for number in numbers:
                future = self._cache.pop(number, None)
                if future is None or (future.done() and future.exception() is not None):
                    future = self._pool.submit(self._read, number)
                self._cache[number] = future
                futures.append(future)
            while len(self._cache) > self._most:
                self._cache.popitem(last=False)
        return futures


def decoder_pool() -> ThreadPoolExecutor:
    """Threads for decoding, one for each processor."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")


def _chunk_reader(store: EpisodeStore, key: str) -> Callable[[int], np.ndarray]:
    """Reads one chunk [rows, ...]. Folders of format 2 go past zarr's event loop straight to the codec."""
    node = store.array(key)
    rows, shape, dtype = int(node.chunks[0]), tuple(node.shape[1:]), node.dtype
    folder: Path = store.path / layout.DATA / key
    metadata: Any = node.metadata
    whole = tuple(node.chunks[1:]) == shape
    direct = (
        folder.is_dir()
        and metadata.zarr_format == 2
        and whole
        and metadata.order == "C"
        and not metadata.filters
    )
    if not direct or metadata.compressor is None:
        steps = store.steps
        return lambda number: np.asarray(node[number * rows : min((number + 1) * rows, steps)])
    codec, tail = (
        metadata.compressor,
        metadata.dimension_separator + metadata.dimension_separator.join("0" * len(shape)),
    )

    def read(number: int) -> np.ndarray:
        file = folder / f"{number}{tail}"
        try:
            raw = codec.decode(file.read_bytes())
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"cannot read the chunk {file}: {error}. See: diffbot data check") from error
        return np.frombuffer(raw, dtype).reshape(rows, *shape)

    return read


def fits_in_memory(store: EpisodeStore, keys: Sequence[str]) -> bool:
    """Whether these keys take less than half of the memory that is free now."""
    needed = sum(store.steps * int(np.prod(a.shape[1:])) * a.dtype.itemsize for a in map(store.array, keys))
    return needed < os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
