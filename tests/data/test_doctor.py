"""The doctor finds each fault that is planted, names the place, and is silent about a healthy dataset."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import zarr
from data_cases import IMAGE_CONTRACT, episode, make_store

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.doctor import check, check_path
from diffbot.data.store import EpisodeStore
from diffbot.data.transforms import TransformGroup


def smooth(length: int, seed: int) -> dict[str, np.ndarray]:
    """An episode that moves all the time, recorded at 20 Hz."""
    arrays = episode(length, seed, IMAGE_CONTRACT)
    phase = np.arange(length)[:, None] * 0.1 + np.arange(3) + seed
    arrays["state"] = np.sin(phase).astype(np.float32)
    arrays["time"] = np.arange(length) / 20.0
    return arrays


def build(path, change=lambda number, arrays: None, contract=IMAGE_CONTRACT) -> EpisodeStore:
    store = EpisodeStore.create(path, contract)
    for i in range(3):
        arrays = smooth(60, i)
        change(i, arrays)
        store.append(arrays, {"seed": i})
    return store


def found(store, **options):
    return {f.check: f for f in check(store, **options)}


def test_a_healthy_dataset_has_no_findings(tmp_path):
    assert check(build(tmp_path / "s.zarr")) == []


def plant(name):
    def change(number, a):
        if number != 1:
            return
        if name == "outlier":
            a["state"][7, 2] = 50.0
        elif name == "pause":
            a["state"][20:45] = a["state"][20]
        elif name == "time gap":
            a["time"][30:] += 0.2
        elif name == "time":
            a["time"][30] = a["time"][29]
        elif name == "rate":
            a["time"] *= 1.1
        elif name == "image":
            a["camera"][:] = 12

    return change


@pytest.mark.parametrize(
    ("name", "level", "says"),
    [
        ("outlier", "warning", "episode 1 step 7"),
        ("pause", "warning", "1.20 s from step 20 of episode 1"),
        ("time gap", "warning", "episode 1 step 30"),
        ("time", "error", "episode 1 step 30"),
        ("rate", "error", "episode 1 has 18.2 Hz"),
        ("image", "warning", r"episodes \[1\]"),
    ],
)
def test_each_planted_fault_is_found_in_its_place(tmp_path, name, level, says):
    findings = found(build(tmp_path / "s.zarr", plant(name)))
    assert name in findings, findings
    assert findings[name].level == level
    assert re.search(says, findings[name].message), findings[name].message
    assert {f for f in findings if findings[f].level == "error"} <= {name}


def test_constant_dimensions_are_named(tmp_path):
    def change(number, a):
        a["action"][:, 1] = 0.5

    finding = found(build(tmp_path / "s.zarr", change))["constant"]
    assert "'action' dimensions 1 never change" in finding.message


def test_values_beyond_the_contract_are_errors(tmp_path):
    narrow = Contract(
        {**IMAGE_CONTRACT.observations, "state": Field((3,), low=(-0.5,), high=(9.0,))}, Action((2,)), 20.0
    )
    finding = found(build(tmp_path / "s.zarr", contract=narrow))["range"]
    assert finding.level == "error" and "low (-0.5,)" in finding.message


def test_non_finite_values_written_by_another_tool_are_errors(tmp_path):
    store = build(tmp_path / "s.zarr")
    zarr.open_group(str(store.path), mode="r+")["data/action"][64, 1] = np.nan
    finding = found(EpisodeStore.open(store.path))["non-finite"]
    assert finding.level == "error" and "episode 1 step 4" in finding.message


def test_a_lost_chunk_is_an_error(tmp_path):
    store = build(tmp_path / "s.zarr")
    (store.path / "data/camera/3.0.0.0").unlink()
    assert "3.0.0.0" in found(store)["chunks"].message


def test_torn_tails_and_stores_that_do_not_open_are_findings(tmp_path):
    store = build(tmp_path / "s.zarr")
    root = zarr.open_group(str(store.path), mode="r+")
    root["data/state"].resize((190, 3))
    assert "10 steps of 'state'" in found(EpisodeStore.open(store.path))["torn tail"].message
    root["meta/episode_ends"][1] = 1
    assert check_path(store.path)[0].check == "open"
    assert check_path(tmp_path / "nothing")[0].level == "error"


def test_statistics_and_contract_of_a_policy_are_compared(tmp_path):
    store = build(tmp_path / "s.zarr")
    group = TransformGroup.default(IMAGE_CONTRACT).fit(store)
    good = group.statistics()
    assert check(store, statistics=good, against=IMAGE_CONTRACT) == []
    missing = {k: v for k, v in good.items() if not k.startswith("action/")}
    assert "no statistics for 'action'" in found(store, statistics=missing)["statistics"].message
    other = {**good, "state/0/scale": good["state/0/scale"] * 0.1}
    assert "taken from other data" in found(store, statistics=other)["statistics"].message
    wrong = {**good, "state/0/scale": torch.ones(5), "state/0/offset": torch.ones(5)}
    assert found(store, statistics=wrong)["statistics"].level == "error"
    fast = Contract(IMAGE_CONTRACT.observations, IMAGE_CONTRACT.action, 50.0)
    assert "50 Hz" in found(store, against=fast)["contract"].message


def test_the_command_reports_and_exits_accordingly(tmp_path):
    build(tmp_path / "good.zarr")
    bad = make_store(tmp_path / "bad.zarr", [5])
    zarr.open_group(str(bad.path), mode="r+")["data/action"][2, 0] = np.inf
    for name, status, says in (("good", 0, "0 errors, 0 warnings"), ("bad", 1, "non-finite")):
        command = [sys.executable, "-m", "diffbot.cli.main", "data", "check", f"path={tmp_path / name}.zarr"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == status and says in result.stdout, result.stdout + result.stderr
