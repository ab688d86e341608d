"""`diffbot collect device=...`: a person leads the arm, and the episodes kept go into a dataset."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from rich.console import Console

import sim_envs
from diffbot import __version__
from diffbot.data import layout
from diffbot.data.contract import Contract
from diffbot.data.repair import cut
from diffbot.data.store import EpisodeStore
from diffbot.data.writer import writer_lock
from diffbot.errors import DataError
from sim_envs.recording import render_states, versions
from sim_envs.teleoperation.devices import check_device, open_device
from sim_envs.teleoperation.driver import Driver
from sim_envs.teleoperation.episode import Demonstration
from sim_envs.teleoperation.session import TeleoperationSession

if TYPE_CHECKING:
    from diffbot.cli.collect_config import CollectConfig

HORIZON_FACTOR = 20  # people are slower than scripts: times the task's horizon in steps


class StoreArchive:
    """Appends demonstrations to a dataset, each committed before the next begins, and takes back those of this session."""

    def __init__(self, store: EpisodeStore, env: Any, config: CollectConfig, operator: str) -> None:
        self.store, self.env, self.config, self.operator = store, env.unwrapped, config, operator
        self._first = len(store)

    def __len__(self) -> int:
        return len(self.store)

    def append(self, demonstration: Demonstration) -> None:
        """Commit the episode with its operator, device, label and seed."""
        recording = demonstration.recording
        size = (self.config.image_size[0], self.config.image_size[1])
        arrays = {
            **recording.observations,
            **render_states(self.env, recording.states, self.config.cameras, size),
            "action": recording.actions,
            "reward": recording.rewards,
            "terminated": recording.terminated,
            "time": recording.times,
            "sim_state": recording.states,
        }
        meta = {
            "success": recording.success,
            "seed": demonstration.seed,
            "operator": self.operator,
            "device": self.config.device,
            "ended": demonstration.ended,
            "labelled_by": demonstration.labelled_by,
            "return": float(recording.rewards.sum()),
        }
        self.store.append(arrays, meta)

    def undo(self) -> bool:
        """Delete the last episode if this session recorded it."""
        if len(self.store) <= self._first:
            return False
        drop_last(self.store)
        return True


def drop_last(store: EpisodeStore) -> None:
    """Delete the last episode of `store`.

    Its end is set to zero first, which one atomic write makes the same as never committed; a kill after that leaves a
    torn tail that the next writer cuts.
    """
    with writer_lock(store.path):
        store.refresh()
        if len(store) == 0:
            raise DataError(f"{store.path} has no episode to delete")
        ends = np.array(store.episode_ends)
        with zarr.config.set({"array.write_empty_chunks": True}):
            layout.array(store.root, f"{layout.META}/{layout.ENDS}")[len(ends) - 1 :] = 0
        cut(store.root, ends[:-1])
    store.refresh()


def run_device(config: CollectConfig) -> int:
    """Teleoperate until the dataset holds the asked number of episodes or the operator quits."""
    from diffbot.cli.collect_parts import FIRST_EVALUATION_SEED

    check_device(config.device)
    spec = sim_envs.spec(config.task)
    options: dict[str, Any] = {str(key): value for key, value in config.env.items()}
    operator = config.operator or getpass.getuser()
    path = Path(config.out) if config.out else Path("datasets") / f"{_name(config.task)}_{config.device}.zarr"
    size = (config.image_size[0], config.image_size[1])
    console = Console()
    # Images are rendered from the states of the episodes kept, so that the arm is led at its full rate.
    seen: Any = sim_envs.make(
        config.task,
        **options,
        **({"cameras": tuple(config.cameras), "image_size": size} if config.cameras else {}),
    )
    Driver(seen)  # refuses a task that no device can lead
    contract = Contract.from_dict(seen.unwrapped.contract())
    seen.close()
    env: Any = sim_envs.make(config.task, **{"horizon": HORIZON_FACTOR * spec.horizon, **options})
    device = None
    try:
        views = _views(env.unwrapped.available_cameras, config.view_cameras)
        device = open_device(
            config.device,
            env,
            page=config.page,
            cameras=views,
            host=config.host,
            port=config.port,
            scene=config.scene,
        )
        provenance = {
            "verb": "collect",
            "task": spec.id,
            "device": config.device,
            "env": options,
            "versions": {"diffbot": __version__, **versions()},
        }
        store = _open(path, contract, provenance, config)
        if len(store) >= config.episodes:
            console.print(
                f"{path} already holds {len(store)} episodes. Ask for more: episodes={2 * len(store)}"
            )
            return 0
        first = int(store.meta("seed").max()) + 1 if len(store) else config.seed
        archive = StoreArchive(store, env, config, operator)
        session = TeleoperationSession(
            env,
            device,
            archive,
            seeds=iter(range(first, FIRST_EVALUATION_SEED)),
            episodes=config.episodes,
            cameras=views,
        )
        console.print(f"{operator} leads {spec.id} by {config.device}. {device.help}", soft_wrap=True)
        console.print("Ctrl-C ends")
        try:
            outcome = session.run()
        except KeyboardInterrupt:
            outcome = "quit"
            session.message = "stopped; an episode that was being recorded is discarded"
        console.print(session.message, soft_wrap=True)
        console.print(f"{path}: {len(store)} episodes, {store.steps} steps", soft_wrap=True)
        return 1 if outcome == "lost" else 0
    finally:
        if device is not None:
            device.close()
        env.close()


def _name(task: str) -> str:
    return task.removeprefix("robosuite/").replace("/", "_")


def _views(available: tuple[str, ...], asked: list[str]) -> tuple[str, ...]:
    """Cameras on the page: those asked for, else the task's first and the one on the wrist."""
    if asked:
        return tuple(asked)
    wrist = [name for name in available if name == "robot0_eye_in_hand"]
    return (available[0], *[name for name in wrist if name != available[0]])


def _open(path: Path, contract: Contract, provenance: dict[str, Any], config: CollectConfig) -> EpisodeStore:
    """A new dataset, or more episodes of the same task for one recorded with a device."""
    if not path.exists():
        return EpisodeStore.create(path, contract, provenance)
    if not config.resume:
        raise DataError(f"{path} exists. Continue it with resume=true, or choose another: out=...")
    store = EpisodeStore.open(path, "a")
    for name in ("task", "env"):
        old, new = store.provenance.get(name), provenance[name]
        if old != new:
            raise DataError(
                f"{path} was recorded with {name}={old!r}, not {new!r}. Choose another dataset: out=..."
            )
    if "device" not in store.provenance:
        raise DataError(f"{path} was recorded by a scripted expert. Choose another dataset: out=...")
    contract.require_match(store.contract, "this command", str(path))
    return store
