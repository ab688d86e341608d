"""`diffbot data import` and `diffbot data export`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from diffbot.cli.verb import Verb


@dataclass(frozen=True)
class ImportConfig:
    """A foreign dataset becomes an episode store."""

    path: str = "???"  # file or folder to read
    out: str = "???"  # new zarr folder
    format: str = (
        "auto"  # robomimic, lerobot_v21, lerobot_v3, diffusion_policy, umi, minari, d4rl, mcap; auto looks
    )
    rate: float = 0.0  # Hz, where the file does not say it
    task: str = ""  # name for the contract
    meaning: str = "absolute"  # of the action: absolute or delta
    space: str = "other"  # of the action: joint, cartesian or other
    keys: list[str] = field(default_factory=list)  # observation keys to take; all when empty
    bindings: str = ""  # YAML that maps keys to topics, for bags


@dataclass(frozen=True)
class ExportConfig:
    """An episode store becomes a foreign dataset."""

    path: str = "???"  # episode store
    out: str = "???"  # new file or folder
    format: str = "???"  # see import


def run_import(config: ImportConfig) -> int:
    """Import, with a progress bar; nothing is left at `out` when it fails."""
    from diffbot.data.formats.base import ImportOptions, detect_format, format_by_name
    from diffbot.data.formats.convert import import_dataset

    path = Path(config.path)
    entry = detect_format(path) if config.format == "auto" else format_by_name(config.format)
    options = ImportOptions(
        config.rate, config.task, config.meaning, config.space, tuple(config.keys), config.bindings
    )
    with Progress() as progress:
        bar = progress.add_task(f"import {entry.name}", total=None)
        store = import_dataset(
            path,
            Path(config.out),
            entry,
            options,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    Console().print(f"{config.out}: {len(store)} episodes, {store.steps} steps from {path} ({entry.name})")
    return 0


def run_export(config: ExportConfig) -> int:
    """Export; nothing is left at `out` when it fails."""
    from diffbot.data.formats.base import format_by_name
    from diffbot.data.formats.convert import export_dataset
    from diffbot.data.store import EpisodeStore

    entry = format_by_name(config.format)
    store = EpisodeStore.open(config.path)
    export_dataset(store, Path(config.out), entry)
    Console().print(f"{config.out}: {len(store)} episodes as {entry.name}")
    return 0


IMPORT = Verb(
    "read a dataset of another project into an episode store",
    ImportConfig,
    run_import,
    (
        "diffbot data import path=low_dim.hdf5 out=datasets/can.zarr",
        "diffbot data import path=d4rl.hdf5 format=d4rl rate=125 out=datasets/hopper.zarr",
    ),
)
EXPORT = Verb(
    "write an episode store in another project's format",
    ExportConfig,
    run_export,
    ("diffbot data export path=datasets/lift.zarr format=lerobot_v3 out=lift_lerobot",),
)
