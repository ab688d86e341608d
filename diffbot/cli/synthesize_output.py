"""The dataset that `diffbot synthesize` writes: opened once more by the same command, and marked with its source."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError


def open_output(
    path: Path, contract: Contract, provenance: dict[str, Any], independent: bool = True
) -> EpisodeStore:
    """A new store, or the one that an interrupted command of the same settings left."""
    if not path.exists():
        return EpisodeStore.create(path, contract, provenance, independent=independent)
    store = EpisodeStore.open(path, "a")
    known = json.loads(json.dumps(provenance))
    if store.provenance != known:
        changed = [key for key in known if store.provenance.get(key) != known[key]]
        raise DataError(
            f"'{path}' holds another dataset (it differs in {', '.join(changed)}). Choose another out="
        )
    return store


def digest(bundle: Path) -> str:
    """SHA-256 of a bundle's weights."""
    return hashlib.sha256((bundle / "policy.safetensors").read_bytes()).hexdigest()
