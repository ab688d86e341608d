"""`diffbot synthesize method=demo_augmentation` on Lift: verified episodes, provenance, resume, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import sim_envs
from diffbot.cli.config import parse
from diffbot.cli.data_replay import replay
from diffbot.cli.synthesize import run
from diffbot.cli.synthesize_config import SynthesizeConfig
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, DataError
from sim_envs.recording import record_episode
from sim_envs.robosuite.actions import TRANSLATION
from sim_envs.robosuite.set_points import set_points, towards

SMALL = [
    "method=demo_augmentation",
    "episodes=4",
    "method.explore=2",
    "method.trial=1",
    "method.learning_steps=400",
    "method.spread=0.005",
    "method.points=24",
    "method.optimizer.warmup=20",
    "training.batch_size=16",
    "force=true",
    "training.threads=1",
    "training.tensorboard=false",
]


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    made = sim_envs.make("robosuite/lift")
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorded(env: Any, tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """Three demonstrations of the scripted expert."""
    store = EpisodeStore.create(
        tmp_path_factory.mktemp("demos") / "lift.zarr", Contract.from_dict(env.unwrapped.contract())
    )
    for seed in range(3):
        found = record_episode(env, sim_envs.expert("robosuite/lift", seed=seed, quality="expert"), seed)
        assert found.success
        arrays = {**found.observations, "action": found.actions, "reward": found.rewards}
        arrays |= {"terminated": found.terminated, "time": found.times, "sim_state": found.states}
        meta = {"success": True, "seed": seed, "mode": "", "quality": "expert", "return": 1.0}
        store.append(arrays, meta)
    return EpisodeStore.open(store.path)


def given(dataset: Path, folder: Path, *more: str) -> SynthesizeConfig:
    places = [f"dataset={dataset}", f"out={folder / 'out.zarr'}", f"run={folder / 'run'}"]
    return parse(SynthesizeConfig, [*SMALL, *places, *more])  # type: ignore[no-any-return]


@pytest.mark.parametrize("mode", ["delta", "absolute"])
def test_set_points_are_what_actions_head_for(env: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    observation, _ = env.reset(seed=0)
    monkeypatch.setattr(env.unwrapped, "action_mode", mode)  # of the encoding; nothing is stepped
    position = observation["robot0_eef_pos"] + np.array([0.01, -0.02, 0.03])
    turned = Rotation.from_rotvec([0.1, 0.2, -0.1]) * Rotation.from_quat(observation["robot0_eef_quat"])
    action = towards(env, position, turned.as_rotvec(), 1.0)
    assert action[6] == 1.0
    pose = observation["robot0_eef_pos"][None], observation["robot0_eef_quat"][None]
    found, rotation = set_points(*pose, action[None], mode)
    np.testing.assert_allclose(found[0], position, atol=1e-5)
    assert (rotation[0] * turned.inv()).magnitude() < 1e-4
    far = towards(env, position + 1.0, turned.as_rotvec(), 1.0)
    reach = set_points(*pose, far[None], mode)[0][0] - observation["robot0_eef_pos"]
    np.testing.assert_allclose(reach, [TRANSLATION] * 3, atol=1e-5)


def test_accepted_episodes_replay_to_success_and_an_interrupted_command_goes_on(
    env: Any, recorded: EpisodeStore, tmp_path: Path
) -> None:
    config = given(recorded.path, tmp_path)
    run(given(recorded.path, tmp_path, "episodes=3"))
    half = EpisodeStore.open(tmp_path / "out.zarr")
    assert len(half) == 3
    run(config)
    whole = EpisodeStore.open(tmp_path / "out.zarr")
    assert len(whole) == 4
    assert len(set(whole.meta("seed").tolist())) == 4 and whole.meta("success").all()
    assert [mode.split()[0] for mode in whole.meta("mode")] == ["re-targeted"] * 2 + ["diffused"] * 2
    np.testing.assert_array_equal(whole.episode(2)["action"], half.episode(2)["action"])
    for index in (1, 3):
        found = replay(env, whole.episode(index), whole.episode_meta(index), index)
        assert found.success and found.drift.max() < 1e-6
    assert whole.provenance["synthetic"] is True and whole.provenance["frames"] == ["cube", "cube"]
    assert len(whole.provenance["bundle"]) == 64
    assert 0 < whole.provenance["checks"]["acceptance"]["re-targeting"] <= 1
    assert set(whole.keys) == set(recorded.keys) and set(whole.meta_names) == set(
        recorded.meta_names
    )  # they merge


def test_too_low_acceptance_writes_nothing(recorded: EpisodeStore, tmp_path: Path) -> None:
    # Noise of 20 cm on every set-point: nothing can be grasped.
    config = given(recorded.path, tmp_path, "force=false", "method.noise=0.2")
    with pytest.raises(DataError, match="too few attempts succeed, nothing is written: 0% of the first"):
        run(config)
    assert not (tmp_path / "out.zarr").exists()


def rewritten(recorded: EpisodeStore, path: Path, change: Any) -> Path:
    """A copy whose episodes went through `change(arrays)`."""
    store = EpisodeStore.create(path, recorded.contract)
    for index in range(len(recorded)):
        store.append(change(recorded.episode(index)), recorded.episode_meta(index))
    return path


def test_bad_input_is_refused_by_name(recorded: EpisodeStore, tmp_path: Path) -> None:
    stateless = rewritten(
        recorded, tmp_path / "a.zarr", lambda a: {k: v for k, v in a.items() if k != "sim_state"}
    )
    nan = rewritten(recorded, tmp_path / "b.zarr", lambda arrays: arrays)
    # The writer refuses such values, so they are put there behind its back.
    EpisodeStore.open(nan, "a").array("object")[3, 1] = np.nan
    cases = [
        (recorded.path, "sources=1", DataError, "1 of 1 demonstrations"),
        (recorded.path, "episodes=0", ConfigError, "episodes=100"),
        (recorded.path, "method.points=2", ConfigError, "points must be at least 3"),
        (stateless, "seed=0", DataError, "sim_state"),
        (nan, "seed=0", DataError, "'object' that are not finite, first at step 3"),
    ]
    for dataset, override, error, words in cases:
        with pytest.raises(error, match=words):
            run(given(dataset, tmp_path, override))
    assert not (tmp_path / "out.zarr").exists()
