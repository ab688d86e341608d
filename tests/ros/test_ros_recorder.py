"""Recorded over DDS, the bag and the episode store hold what the policy node consumed, key for key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffbot_ros.assemble import import_bag
from diffbot_ros.bindings import load_bindings
from diffbot_ros.episodes import EpisodeClient
from diffbot_ros.graphs import GraphSettings, recording
from diffbot_ros.processes import Processes
from diffbot_ros.trace import load_traces

from benchmarks._point_robot import task_bundle
from diffbot.control.load import load_contract
from diffbot.data.store import EpisodeStore

pytestmark = pytest.mark.ros


def test_bag_and_store_equal_what_the_policy_consumed(
    ros_environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("mujoco")
    policy = task_bundle(tmp_path, "pusht/state", episodes=2, steps=50)
    settings = GraphSettings(
        policy=str(policy), rate_scale=3.0, traces=str(tmp_path / "traces"), out=str(tmp_path / "recording")
    )
    with (
        Processes(recording(settings), ros_environment, tmp_path / "log") as processes,
        EpisodeClient(processes.check) as client,
    ):
        client.wait_ready()
        client.wait_for_subscribers("observation/block_position", 2)
        episode = client.run(100000)
        client.settle(1.0)
    contract = load_contract(policy)
    bags = list((tmp_path / "recording").glob("bag*"))
    assert import_bag(bags[0], contract, load_bindings(contract), tmp_path / "imported.zarr") == 1
    live = EpisodeStore.open(tmp_path / "recording" / "episodes.zarr")
    imported = EpisodeStore.open(tmp_path / "imported.zarr")
    assert len(live) == len(imported) == 1
    assert live.meta("seed")[0] == imported.meta("seed")[0] == 100000
    (trace,) = load_traces(tmp_path / "traces")
    place = {round(time * 1e9): i for i, time in enumerate(trace.times)}
    for store in (live, imported):
        arrays = store.episode(0)
        assert len(arrays["action"]) == episode.steps
        rows = [place[round(time * 1e9)] for time in arrays["time"]]
        assert rows == sorted(rows) and len(set(rows)) == len(rows)
        for key in contract.observations:
            consumed = np.stack([trace.observations[i][key] for i in rows])
            np.testing.assert_array_equal(arrays[key], consumed, err_msg=key)
