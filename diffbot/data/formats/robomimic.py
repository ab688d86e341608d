"""robomimic and robosuite HDF5: data/<demo>/{actions, obs/<key>, rewards, dones, states}.

Source: robomimic's dataset documentation ("Dataset Structure"), robosuite's demonstration collection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffbot.data.contract import Contract
from diffbot.data.formats.base import Format, ImportOptions, Source, choose, guess_contract, vectors
from diffbot.data.formats.hdf5 import is_hdf5, open_hdf5, plain_attribute
from diffbot.data.store import EpisodeStore
from diffbot.errors import DataError

OPTIONAL = {"rewards": "reward", "dones": "terminated", "states": "sim_state"}
CONTRACT, META, EXTRA = "diffbot_contract", "diffbot_meta", "diffbot"


def detect(path: Path) -> bool:
    """HDF5 with a group data/ whose members have actions."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return "data" in file and any("actions" in group for group in file["data"].values())


def read(path: Path, options: ImportOptions) -> Source:
    """Open a robomimic file. Raises DataError for demonstrations without observations, with the fix."""
    with open_hdf5(path) as file:
        demos = sorted(file["data"], key=_number)
        attributes = file["data"].attrs
        environment = json.loads(plain_attribute(attributes, "env_args", "{}"))
        stored = plain_attribute(attributes, CONTRACT, "")
        first = _episode(file["data"][demos[0]], options, demos[0])[0] if demos else {}
    if not demos:
        raise DataError(f"{path} has no demonstrations under data/")
    rate = float(environment.get("env_kwargs", {}).get("control_freq", 0.0))
    contract = Contract.from_dict(json.loads(stored)) if stored else guess_contract(first, rate, options)

    def episodes() -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        with open_hdf5(path) as file:
            for demo in demos:
                yield _episode(file["data"][demo], options, demo)

    return Source(contract, len(demos), episodes, {"env_args": environment})


def write(store: EpisodeStore, path: Path) -> None:
    """Write observations, next observations, actions, rewards, dones and states as robomimic expects them."""
    with open_hdf5(path, "w") as file:
        group = file.create_group("data")
        contract = store.contract
        group.attrs[CONTRACT] = json.dumps(contract.to_dict())
        environment = store.provenance.get("env_args") or {
            "env_name": contract.task,
            "type": 1,
            "env_kwargs": {"control_freq": contract.rate},
        }
        group.attrs["env_args"] = json.dumps(environment)
        group.attrs["total"] = store.steps
        for i in range(len(store)):
            arrays = store.episode(i)
            demo = group.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = len(arrays["action"])
            demo.attrs[META] = json.dumps(
                {k: np.asarray(v).tolist() for k, v in store.episode_meta(i).items()}
            )
            demo["actions"] = arrays.pop("action")
            for theirs, ours in OPTIONAL.items():
                if ours in arrays:
                    value = arrays.pop(ours)
                    demo[theirs] = value
                    demo[theirs].attrs["dtype"] = str(value.dtype)
            for key in contract.observations:
                value = arrays.pop(key)
                demo[f"obs/{key}"] = value
                demo[f"next_obs/{key}"] = np.concatenate([value[1:], value[-1:]])
            for key, value in arrays.items():
                demo[f"{EXTRA}/{key}"] = value


def _episode(demo: Any, options: ImportOptions, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if "obs" not in demo:
        raise DataError(
            f"demonstration '{name}' has states and actions but no observations. Make them with robomimic's "
            "dataset_states_to_obs.py, or collect anew: diffbot collect"
        )
    arrays = {"action": demo["actions"][()]}
    arrays |= {key: vectors(value[()]) for key, value in demo["obs"].items()}
    arrays |= {ours: demo[theirs][()] for theirs, ours in OPTIONAL.items() if theirs in demo}
    arrays |= {key: value[()] for key, value in demo.get(EXTRA, {}).items()}
    meta = json.loads(plain_attribute(demo.attrs, META, "{}"))
    if not meta and "reward" in arrays:
        meta = {"return": float(arrays["reward"].sum()), "success": bool((arrays["reward"] > 0).any())}
    return choose(arrays, options.keys), meta


def _number(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else -1, name)


FORMAT = Format("robomimic", "robomimic and robosuite HDF5", detect, read, write)
