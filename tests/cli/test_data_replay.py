"""Replaying recorded actions from the recorded start gives the recorded states, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sim_envs
from diffbot.cli.data_replay import ReplayConfig, run
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, DataError
from sim_envs.recording import record_episode


def record(path: Path, seeds: tuple[int, ...], tamper: float = 0.0) -> EpisodeStore:
    env = sim_envs.make("robosuite/lift")
    store = EpisodeStore.create(path, Contract.from_dict(env.unwrapped.contract()))
    with store.writer() as writer:
        for seed in seeds:
            episode = record_episode(env, sim_envs.expert("robosuite/lift", seed=seed), seed)
            actions = episode.actions.copy()
            actions[5, 0] = np.clip(actions[5, 0] + tamper, -1, 1)
            arrays = {**episode.observations, "action": actions, "sim_state": episode.states}
            writer.append(arrays, {"seed": seed, "success": episode.success})
    env.close()
    return store


def test_replay_is_exact_and_tampering_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "good.zarr", (3, 4))
    assert run(ReplayConfig(str(tmp_path / "good.zarr"), tolerance=0.0)) == 0
    record(tmp_path / "bad.zarr", (3,), tamper=0.5)
    assert run(ReplayConfig(str(tmp_path / "bad.zarr"))) == 1
    assert "0 of 1 episodes" in capsys.readouterr().out


def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    record(tmp_path / "good.zarr", (3,))
    with pytest.raises(ConfigError, match=r"episodes 0\.\.0"):
        run(ReplayConfig(str(tmp_path / "good.zarr"), episodes=[7]))
    env = sim_envs.make("robosuite/lift")
    contract = Contract.from_dict(env.unwrapped.contract())
    env.close()
    store = EpisodeStore.create(tmp_path / "plain.zarr", contract)
    arrays = {k: np.zeros((2, *f.shape), f.dtype) for k, f in contract.observations.items()}
    store.append({**arrays, "action": np.zeros((2, 7), np.float32)})
    with pytest.raises(DataError, match="sim_state"):
        run(ReplayConfig(str(tmp_path / "plain.zarr")))
