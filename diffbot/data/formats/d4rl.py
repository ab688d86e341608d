"""D4RL-style HDF5: observations, actions, rewards, terminals and timeouts of all episodes one after the other.

Source: Fu et al. (2020), D4RL, and its `qlearning_dataset`. An episode ends at a terminal or a time-out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.contract import Contract
from diffbot.data.formats.base import Format, ImportOptions, Source, guess_contract
from diffbot.data.formats.hdf5 import is_hdf5, open_hdf5, plain_attribute
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError

NEEDED = ("observations", "actions", "rewards", "terminals")
CONTRACT = "diffbot_contract"


def detect(path: Path) -> bool:
    """HDF5 with the four flat arrays at its root."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return all(name in file for name in NEEDED)


def read(path: Path, options: ImportOptions) -> Source:
    """Open a file. D4RL files do not say their rate: it must be given unless the file carries our contract."""
    with open_hdf5(path) as file:
        flat = {name: file[name][()] for name in (*NEEDED, "timeouts", "next_observations") if name in file}
        stored = plain_attribute(file.attrs, CONTRACT, "")
        extra = {key: value[()] for key, value in file.get("diffbot/data", {}).items()}
        meta = {key: value[()] for key, value in file.get("diffbot/meta", {}).items()}
    lengths = {name: len(value) for name, value in flat.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{path}: arrays have different lengths: {lengths}")
    terminals = flat["terminals"].astype(bool).reshape(-1)
    timeouts = flat.get("timeouts", np.zeros_like(terminals)).astype(bool).reshape(-1)
    ends = np.flatnonzero(terminals | timeouts) + 1
    if not len(ends) or ends[-1] != len(terminals):
        # The recording was cut off inside its last episode: a time-out by D4RL's own reading.
        ends = np.append(ends, len(terminals))
        timeouts = timeouts.copy()
        timeouts[-1] = True
    state = flat["observations"]
    contract = Contract.from_dict(json.loads(stored)) if stored else None
    columns = _split(state, contract)
    columns |= {
        "action": flat["actions"],
        "reward": flat["rewards"].reshape(-1),
        "terminated": terminals,
        "truncated": timeouts & ~terminals,
        **extra,
    }
    if contract is None:
        contract = guess_contract(columns, 0.0, options)
    starts = np.concatenate([[0], ends[:-1]])

    def episodes() -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        for i, (start, stop) in enumerate(zip(starts, ends, strict=True)):
            arrays = {key: value[start:stop] for key, value in columns.items()}
            yield (
                arrays,
                {key: _text(value[i]) for key, value in meta.items()}
                or {"return": float(arrays["reward"].sum())},
            )

    return Source(contract, len(ends), episodes)


def write(store: EpisodeStore, path: Path) -> None:
    """Write state observations side by side; a store without rewards or with images is refused."""
    contract = store.contract
    if contract.image_keys:
        raise DataError(
            f"D4RL files hold state vectors, this store has images: {', '.join(contract.image_keys)}"
        )
    if "reward" not in store.keys:
        raise DataError(f"D4RL files need rewards, {store.path} has none")
    arrays = store.load()
    action, reward = arrays.pop("action"), arrays.pop("reward")
    terminals = arrays.pop("terminated", np.zeros(len(reward), bool)).astype(bool)
    timeouts = arrays.pop("truncated", np.zeros(len(reward), bool)).astype(bool)
    timeouts[store.episode_ends - 1] |= ~terminals[store.episode_ends - 1]
    with open_hdf5(path, "w") as file:
        file.attrs[CONTRACT] = json.dumps(contract.to_dict())
        state = [arrays.pop(key).reshape(len(reward), -1) for key in contract.observations]
        if len({value.dtype for value in state}) != 1:
            raise DataError(
                "D4RL files hold one array of one dtype; this store's observations differ in dtype"
            )
        file["observations"] = np.concatenate(state, axis=1)
        file["actions"], file["rewards"] = action, reward
        file["terminals"], file["timeouts"] = terminals, timeouts
        for key, value in arrays.items():
            file[f"diffbot/data/{key}"] = value
        for name in store.meta_names:
            value = store.meta(name)
            file[f"diffbot/meta/{name}"] = value.astype("S") if value.dtype.kind in "OUT" else value


def _split(state: np.ndarray, contract: Contract | None) -> dict[str, np.ndarray]:
    """The columns of `observations` by the contract's keys, or as one key "observation"."""
    if contract is None:
        return {"observation": state}
    widths = [field.size for field in contract.observations.values()]
    if sum(widths) != state.shape[1]:
        raise DataError(
            f"observations have {state.shape[1]} columns, the contract in the file says {sum(widths)}"
        )
    pieces = np.split(state, np.cumsum(widths)[:-1], axis=1)
    return {
        key: piece.reshape(len(state), *field.shape)
        for (key, field), piece in zip(contract.observations.items(), pieces, strict=True)
    }


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


FORMAT = Format("d4rl", "D4RL-style HDF5 (flat arrays, terminals and timeouts)", detect, read, write)
