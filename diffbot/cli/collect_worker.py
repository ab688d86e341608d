"""Worker processes of `diffbot collect`: each plays whole episodes by seed; one that dies is replaced.

Workers never touch the dataset. They send finished episodes to the process that owns it, so an episode is either there
whole or not at all, however a worker ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from diffbot.cli.collect_parts import Part
from diffbot.errors import DataError, DiffbotError

MAX_DEATHS = 3  # a seed whose worker dies this often stops the collection


@dataclass(frozen=True)
class Job:
    """What every worker of one collection plays."""

    task: str
    quality: str
    options: dict[str, Any]
    cameras: tuple[str, ...]
    image_size: tuple[int, int]
    keep_failures: bool
    parts: tuple[Part, ...] = ()

    def quality_of(self, seed: int) -> str:
        """The quality of the part that this seed belongs to."""
        return next((part.quality for part in self.parts if part.first <= seed < part.stop), self.quality)


@dataclass(frozen=True)
class Episode:
    """One finished episode: arrays [T, ...] and numbers; `arrays` is empty when it is not to be kept."""

    seed: int
    success: bool
    steps: int
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def play(env: Any, job: Job, seed: int) -> Episode:
    """Play the episode of `seed`; images are rendered from the recorded states, and only of an episode that is kept."""
    import sim_envs
    from sim_envs.recording import record_episode, render_states

    quality = job.quality_of(seed)
    recording = record_episode(env, sim_envs.expert(job.task, seed=seed, quality=quality), seed)
    meta = {
        "success": recording.success,
        "seed": seed,
        "mode": recording.mode,
        "quality": quality,
        "return": float(recording.rewards.sum()),
        **({"member": recording.member} if recording.member else {}),
    }
    if not (recording.success or job.keep_failures):
        return Episode(seed, False, len(recording), {}, meta)
    arrays = {
        **recording.observations,
        **render_states(env, recording.states, job.cameras, job.image_size),
        "action": recording.actions,
        "reward": recording.rewards,
        "terminated": recording.terminated,
        "time": recording.times,
        "sim_state": recording.states,
    }
    return Episode(seed, recording.success, len(recording), arrays, meta)


def work(pipe: Connection, job: Job) -> None:
    """Body of a worker: take seeds until told to stop or until the owner is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import sim_envs

    env: Any = None
    try:
        env = sim_envs.make(job.task, **job.options)
        while (seed := pipe.recv()) is not None:
            pipe.send(play(env, job, seed))
    except EOFError:
        pass  # the owner ended
    except Exception as error:
        user = isinstance(error, DiffbotError | sim_envs.SimEnvError)
        pipe.send(str(error) if user else traceback.format_exc())
    finally:
        if env is not None:
            env.close()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    seed: int | None = None


class WorkerPool:
    """Processes that play seeds; use as a context manager."""

    def __init__(self, job: Job, count: int):
        self.job, self.count = job, count
        self.deaths: dict[int, int] = {}
        self.replaced = 0
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        with one_thread():
            self._workers = [self._start() for _ in range(self.count)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=10)
            worker.pipe.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        return [w.process.pid for w in self._workers if w.process.pid is not None and w.process.is_alive()]

    def episodes(self, seeds: Iterator[int]) -> Iterator[Episode]:
        """Episodes of `seeds`, in the order of the seeds whichever worker ends first.

        Raises DataError when a worker reports an error or a seed keeps killing its worker.
        """
        order: list[int] = []
        done: dict[int, Episode] = {}
        for worker in self._workers:
            self._give(worker, next(seeds, None), order)
        while order or any(w.seed is not None for w in self._workers):
            while order and order[0] in done:
                yield done.pop(order.pop(0))
            busy = [w for w in self._workers if w.seed is not None]
            if not busy:
                break
            ready = wait([w.pipe for w in busy])
            for worker in [w for w in busy if w.pipe in ready]:
                self._take(worker, done)
                # A worker that is far ahead of the slowest one waits, so that memory stays bounded.
                if worker.seed is None and len(done) < 8 * self.count:
                    self._give(worker, next(seeds, None), order)
            for worker in self._workers:
                if worker.seed is None and len(done) < 4 * self.count:
                    self._give(worker, next(seeds, None), order)

    def _take(self, worker: _Worker, done: dict[int, Episode]) -> None:
        """Receive a result, or replace the worker when it has died and let its successor play the same seed."""
        seed = worker.seed
        assert seed is not None
        try:
            result = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            self.deaths[seed] = self.deaths.get(seed, 0) + 1
            if self.deaths[seed] >= MAX_DEATHS:
                code = worker.process.exitcode
                raise DataError(
                    f"the worker that played seed {seed} died {MAX_DEATHS} times (exit status {code}); out of memory? "
                    "Try fewer: workers=1"
                ) from None
            worker.pipe.close()
            with one_thread():
                fresh = self._start()
            worker.process, worker.pipe = fresh.process, fresh.pipe
            self.replaced += 1
            worker.pipe.send(seed)
            return
        if isinstance(result, str):
            raise DataError(f"a worker failed at seed {seed}: {result}")
        worker.seed = None
        done[seed] = result

    def _give(self, worker: _Worker, seed: int | None, order: list[int]) -> None:
        if seed is None:
            return
        worker.seed = seed
        order.append(seed)
        with contextlib.suppress(BrokenPipeError):  # a dead worker shows at the next receive
            worker.pipe.send(seed)

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, self.job), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Processes started inside use one thread each: the cores are shared out by process."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
