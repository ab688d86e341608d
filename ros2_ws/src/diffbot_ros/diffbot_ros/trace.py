"""What a policy node consumed, episode by episode, so that its chunks can be computed again in process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffbot.control import Chunk, CommittedPrefix, PolicyRunner
from diffbot.errors import DataError


@dataclass
class Trace:
    """One episode: observations [N, ...] by key with their times, and after which of them a chunk was computed.

    prefixes: for each inference (actions [H, A], weights [H]) that it had to respect, or None.
    """

    seed: int
    times: list[float] = field(default_factory=list)
    observations: list[Mapping[str, np.ndarray]] = field(default_factory=list)
    inferences: list[int] = field(default_factory=list)
    prefixes: list[CommittedPrefix | None] = field(default_factory=list)

    def observe(self, values: Mapping[str, np.ndarray], time: float) -> None:
        """Note an observation that was given to the policy."""
        self.times.append(time)
        self.observations.append(values)

    def infer(self, prefix: CommittedPrefix | None) -> None:
        """Note that a chunk was computed now."""
        self.inferences.append(len(self.times))
        self.prefixes.append(prefix)

    def save(self, path: Path) -> None:
        """Write to an .npz file (numbers only), completely or not at all."""
        arrays: dict[str, np.ndarray] = {
            "seed": np.array(self.seed, np.int64),
            "times": np.array(self.times, np.float64),
            "inferences": np.array(self.inferences, np.int64),
            "guided": np.array([p is not None for p in self.prefixes], bool),
        }
        for key in self.observations[0] if self.observations else ():
            arrays[f"observation/{key}"] = np.stack([o[key] for o in self.observations])
        guided = [p for p in self.prefixes if p is not None]
        if guided:
            arrays["prefix_actions"] = np.stack([p.actions for p in guided])
            arrays["prefix_weights"] = np.stack([p.weights for p in guided])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Inverse of `save`. Raises DataError when the file is damaged."""
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
            trace = cls(int(arrays["seed"]), [float(t) for t in arrays["times"]])
            names = [name for name in arrays if name.startswith("observation/")]
            trace.observations = [
                {name.removeprefix("observation/"): arrays[name][i] for name in names}
                for i in range(len(trace.times))
            ]
            trace.inferences = [int(i) for i in arrays["inferences"]]
            guided = iter(range(len(trace.inferences)))
            trace.prefixes = []
            for flag in arrays["guided"]:
                i = next(guided) if flag else 0
                trace.prefixes.append(
                    CommittedPrefix(arrays["prefix_actions"][i], arrays["prefix_weights"][i])
                    if flag
                    else None
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{path} is not a readable trace of a policy node: {error}") from error
        return trace


def load_traces(folder: Path) -> list[Trace]:
    """All traces of a folder, in the order of their names."""
    return [Trace.load(path) for path in sorted(folder.glob("episode_*.npz"))]


def replay(trace: Trace, runner: PolicyRunner) -> Iterator[Chunk]:
    """Compute the chunks of an episode again, from its observations alone."""
    runner.reset(trace.seed)
    done = 0
    for seen, prefix in zip(trace.inferences, trace.prefixes, strict=True):
        for i in range(done, seen):
            runner.observe(trace.observations[i], trace.times[i])
        done = seen
        yield runner.infer(prefix)


def differing(published: Mapping[int, Chunk], computed: Iterator[Chunk]) -> list[str]:
    """How published chunks (by id) differ from computed ones: one line for each, empty when bit-identical.

    The last chunk of an episode may still be on its way when the episode ends; that it was not received is no difference.
    """
    lines = []
    seen = set()
    missing: list[int] = []
    for chunk in computed:
        seen.add(chunk.id)
        other = published.get(chunk.id)
        if other is None:
            missing.append(chunk.id)
        elif other.actions.tobytes() != chunk.actions.tobytes() or list(_valid(other)) != list(_valid(chunk)):
            gap = float(np.abs(other.actions - chunk.actions).max())
            lines.append(f"chunk {chunk.id} differs by up to {gap:g}")
        elif abs(other.start - chunk.start) > 1e-6 or other.contract_hash != chunk.contract_hash:
            lines.append(f"chunk {chunk.id} differs in its stamp or contract")
    lines += [f"chunk {i} was never received" for i in missing if i != max(seen)]
    lines += [f"chunk {i} was received but not computed" for i in sorted(set(published) - seen)]
    return lines


def _valid(chunk: Chunk) -> np.ndarray:
    assert chunk.valid is not None  # Chunk fills it in
    return chunk.valid


def write_json(path: Path, value: object) -> None:
    """Write JSON completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)
