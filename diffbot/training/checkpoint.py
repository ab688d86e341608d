"""Checkpoints: folders `step_00001000` with the whole training state, written whole or not at all."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from diffbot.errors import BundleError, DataError
from diffbot.methods.bundle import atomic_folder, fingerprint, load_tensors, save_tensors
from diffbot.training.pack import pack, unpack

log = logging.getLogger(__name__)

TENSORS, SKELETON = "state.safetensors", "state.json"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state of `step` under `folder` and remove all but the `keep` newest. Returns its path."""
    tensors, skeleton = pack(state)
    target = folder / f"step_{step:08d}"
    with atomic_folder(target) as part:
        save_tensors(part / TENSORS, tensors)
        record = {"format": 1, "step": step, "tensors": fingerprint(part / TENSORS), "state": skeleton}
        (part / SKELETON).write_text(json.dumps(record))
    for _, old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the checkpoints under `folder`, oldest first."""
    found = []
    for path in folder.glob("step_*") if folder.is_dir() else ():
        match = re.fullmatch(r"step_(\d+)", path.name)
        if match:
            found.append((int(match.group(1)), path))
    return sorted(found)


def load_checkpoint(path: Path) -> tuple[int, dict[str, Any]]:
    """Read (step, state). Raises DataError naming the file that is missing, truncated or altered."""
    try:
        record = json.loads((path / SKELETON).read_text())
        if fingerprint(path / TENSORS) != record["tensors"]:
            raise DataError(
                f"'{path / TENSORS}' is truncated or corrupt: it differs from its recorded SHA-256"
            )
        return int(record["step"]), unpack(load_tensors(path / TENSORS), record["state"])
    except (OSError, ValueError, KeyError, TypeError, BundleError) as error:
        raise DataError(f"the checkpoint '{path}' cannot be read: {error}") from error


def newest_checkpoint(folder: Path) -> tuple[int, dict[str, Any]]:
    """The newest checkpoint that is whole; damaged ones are named in the log and passed over.

    Raises DataError when there is none.
    """
    problems = []
    for _, path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path)
        except DataError as error:
            log.warning("%s; trying the one before", error)
            problems.append(str(error))
    reason = problems[0] if problems else f"'{folder}' holds none"
    raise DataError(f"no usable checkpoint: {reason}. Start the training anew.")
