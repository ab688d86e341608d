"""`diffbot data info`: what a dataset holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from omegaconf import MISSING
from rich.console import Console
from rich.table import Table

from diffbot.cli.verb import Verb
from diffbot.data.store import EpisodeStore


@dataclass(frozen=True)
class InfoConfig:
    """Settings of `diffbot data info`."""

    path: str = MISSING  # the dataset: a zarr folder or .zip


def run(config: InfoConfig) -> int:
    """Print episodes, keys and per-episode values."""
    store = EpisodeStore.open(config.path)
    console = Console()
    lengths = store.episode_lengths
    console.print(f"[bold]{config.path}[/]: {len(store)} episodes, {store.steps} steps", highlight=False)
    if store.has_contract:
        contract = store.contract
        seconds = store.steps / contract.rate
        console.print(
            f"task {contract.task or '(none)'}, {contract.rate:g} Hz, {seconds:.0f} s, contract {contract.hash()}"
        )
    if len(store):
        console.print(f"episode lengths: {lengths.min()} to {lengths.max()}, median {np.median(lengths):g}")
    if store.tail:
        console.print(f"[yellow]uncommitted tail: {store.tail}; the next writer removes it[/]")
    keys = Table("key", "shape", "dtype", "unit", "frame", "chunk", "compressed", title="per step")
    for key in store.keys:
        node = store.array(key)
        field = None
        if store.has_contract:
            field = store.contract.action if key == "action" else store.contract.observations.get(key)
        size = f"{node.nbytes_stored() / 1e6:.2f} MB"
        unit, frame = (field.unit, field.frame) if field else ("", "")
        keys.add_row(key, str(node.shape[1:]), str(node.dtype), unit, frame, str(node.chunks[0]), size)
    console.print(keys)
    if store.meta_names and len(store):
        table = Table("name", "values", title="per episode")
        for name in store.meta_names:
            table.add_row(name, _summary(store.meta(name)))
        console.print(table)
    for name, value in store.provenance.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    return 0


def _summary(values: np.ndarray) -> str:
    if values.dtype == bool:
        return f"{int(values.sum())} of {len(values)} true"
    if values.dtype.kind in "iuf" and values.ndim == 1:
        return f"{values.min():g} to {values.max():g}, mean {values.mean():.4g}"
    if values.ndim == 1:
        names, counts = np.unique(values.astype(str), return_counts=True)
        shown = ", ".join(f"{n} ({c})" for n, c in list(zip(names, counts, strict=True))[:6])
        return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"shape {values.shape[1:]}"


INFO = Verb(
    "episodes, keys, values and provenance of a dataset",
    InfoConfig,
    run,
    ("diffbot data info path=lift.zarr",),
)
