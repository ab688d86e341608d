"""Kill a writing process at random instants, fill the disk, write twice at once: no committed episode may be lost."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.repair import TornTailWarning
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError
from diffbot.evaluation.bench import BenchResult

SUMMARY = "SIGKILL a writer at random instants, fill the disk, start two writers; verify every byte"

CONTRACT = Contract(
    {"state": Field((23,)), "camera": Field((24, 24, 3), dtype="uint8", kind="image")}, Action((7,)), 20.0
)


@dataclass(frozen=True)
class Config:
    """How often to kill, and how large the full disk is."""

    kills: int = 200
    longest_life: float = 0.4  # s that a writer lives at most, once it writes
    disk_mb: int = 6
    seed: int = 0


def episode(number: int) -> dict[str, np.ndarray]:
    """Episode `number`, the same in every process."""
    rng = np.random.default_rng([7, number])
    length = int(rng.integers(5, 60))
    return {
        "state": rng.normal(size=(length, 23)).astype(np.float32),
        "camera": rng.integers(0, 256, (length, 24, 24, 3), dtype=np.uint8),
        "action": rng.normal(size=(length, 7)).astype(np.float32),
    }


def write(path: Path, count: int, say: Callable[[int], None]) -> None:
    """Append episodes; say(-1) when the first begins and say(number) after each commit."""
    warnings.simplefilter("ignore", TornTailWarning)
    store = EpisodeStore.open(path, "a") if path.exists() else EpisodeStore.create(path, CONTRACT)
    with store.writer() as writer:
        first = len(store)
        say(-1)
        for number in range(first, first + count):
            writer.append(episode(number), {"seed": number, "note": f"episode {number}"})
            say(number)


def victim(path: Path, pipe: Connection) -> None:
    """The process that is killed."""
    write(path, 1_000_000, lambda number: pipe.send_bytes(str(number).encode()))


def run(config: Config) -> BenchResult:
    """All three trials."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures.update(_kill(Path(folder), config))
        figures.update(_full_disk(Path(folder), config))
        figures.update(_two_writers(Path(folder)))
    rows = [{"figure": name, "value": value} for name, value in figures.items()]
    return BenchResult(figures, rows, [config.seed], "a kill counts when it hit a living writer")


def _kill(folder: Path, config: Config) -> dict[str, Any]:
    rng = np.random.default_rng(config.seed)
    counts = dict.fromkeys(
        ("kills", "episodes_lost", "stores_unopenable", "bytes_mismatched", "torn_tails"), 0
    )
    path, committed, episodes, part = folder / "part0.zarr", 0, 0, 0
    while counts["kills"] < config.kills:
        alive, said = _one_life(path, float(rng.uniform(0, config.longest_life)))
        counts["kills"] += alive
        committed = max(committed, said)
        if not path.exists():
            continue  # killed before the empty store appeared: nothing was promised
        try:
            store = EpisodeStore.open(path)
        except DataError:
            counts["stores_unopenable"] += 1
            path, committed, part = folder / f"part{part + 1}.zarr", 0, part + 1
            continue
        counts["torn_tails"] += bool(store.tail)
        counts["episodes_lost"] += max(0, committed - len(store))
        counts["bytes_mismatched"] += _mismatched(store, max(0, len(store) - 15))
        committed = len(store)
        if (
            len(store) > 150
        ):  # verify it whole and begin anew, so that early commits are tried again and again
            counts["bytes_mismatched"] += _mismatched(store, 0)
            episodes += len(store)
            shutil.rmtree(path)
            path, committed, part = folder / f"part{part + 1}.zarr", 0, part + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TornTailWarning)
        store = EpisodeStore.open(path, "a") if path.exists() else EpisodeStore.create(path, CONTRACT)
    counts["bytes_mismatched"] += _mismatched(store, 0)
    return {**counts, "episodes_written": episodes + len(store)}


def _one_life(path: Path, life: float) -> tuple[bool, int]:
    """Start a writer, kill it `life` seconds after it began; whether it was alive, and how many it said are committed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["diffbot.data.store"])  # so that a process starts in milliseconds
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=victim, args=(path, theirs))
    process.start()
    theirs.close()
    if not ours.poll(60) or ours.recv_bytes() != b"-1":
        raise RuntimeError("the writer did not begin within 60 s")
    time.sleep(life)
    alive = process.is_alive()
    process.kill()
    process.join()
    committed = 0
    with contextlib.suppress(EOFError, OSError):  # the pipe ends where the process did
        while True:
            committed = int(ours.recv_bytes()) + 1
    ours.close()
    return alive, committed


def _mismatched(store: EpisodeStore, first: int) -> int:
    """Bytes of episodes first.. that differ from what was written."""
    wrong = 0
    seeds = store.meta("seed") if len(store) else np.zeros(0)
    for number in range(first, len(store)):
        want, got = episode(number), store.episode(number)
        for key, value in want.items():
            if got[key].shape != value.shape:
                wrong += value.nbytes
            elif hashlib.sha256(got[key].tobytes()).digest() != hashlib.sha256(value.tobytes()).digest():
                wrong += int((got[key].view(np.uint8) != value.view(np.uint8)).sum())
        wrong += 8 * int(seeds[number] != number)
    return wrong


@contextlib.contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[tuple[Path, str]]:
    """A tmpfs where mounting is permitted, else a folder with a limit on the size of each file (RLIMIT_FSIZE)."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
    with contextlib.suppress(OSError):
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            try:
                yield disk, "tmpfs"
            finally:
                subprocess.run(["umount", str(disk)], check=True)
            return
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        yield disk, "file size limit"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def _full_disk(folder: Path, config: Config) -> dict[str, Any]:
    """Append until the disk is full; the store must keep everything before, and go on when there is space again."""
    with _small_disk(folder, config.disk_mb) as (disk, kind):
        store, message = EpisodeStore.create(disk / "full.zarr", CONTRACT), ""
        try:
            for number in range(10_000):
                store.append(episode(number), {"seed": number, "note": ""})
        except DataError as error:
            message = str(error)
        again = EpisodeStore.open(disk / "full.zarr")
        stored, wrong = len(again), _mismatched(again, 0)
        lost = len(store) - stored
        space = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize / 1e6
    return {
        "full_disk.kind": kind,
        "full_disk.error_is_clear": "the disk is full" in message and "are safe" in message,
        "full_disk.episodes_stored": stored,
        "full_disk.episodes_lost": lost,
        "full_disk.bytes_mismatched": wrong,
        "full_disk.space_left_mb": space,
    }


def _two_writers(folder: Path) -> dict[str, Any]:
    """Two processes append to one store; the second must be refused and the first undisturbed."""
    path = folder / "two.zarr"
    EpisodeStore.create(path, CONTRACT)
    command = [sys.executable, str(Path(__file__).resolve()), str(path)]
    with subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        while first.stdout.readline() != "3\n":
            pass
        second = subprocess.run([*command, "5"], capture_output=True, text=True, check=False)
        while int(first.stdout.readline()) < 6:
            pass
        first.kill()
    store = EpisodeStore.open(path)
    return {
        "two_writers.second_refused": second.returncode != 0
        and "another process is writing" in second.stderr,
        "two_writers.episodes_lost": max(0, 7 - len(store)),
        "two_writers.bytes_mismatched": _mismatched(store, 0),
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), lambda number: print(number, flush=True))
