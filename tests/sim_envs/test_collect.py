"""`diffbot collect`: what it stores, killed and resumed, dead workers, bad requests."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import sim_envs
from diffbot.cli.collect import default_path, run
from diffbot.cli.collect_config import CollectConfig
from diffbot.cli.collect_worker import Job, WorkerPool
from diffbot.cli.config import parse
from diffbot.cli.main import main
from diffbot.data.store import EpisodeStore
from diffbot.errors import ConfigError, DataError

TASK = "robosuite/lift"
JOB = Job(TASK, "expert", {}, (), (84, 84), False)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("collect") / "lift.zarr"
    assert main(["collect", f"task={TASK}", "episodes=5", f"out={path}", "workers=2"]) == 0
    return path


def test_stores_whole_successful_episodes_with_provenance(collected: Path) -> None:
    store = EpisodeStore.open(collected)
    assert len(store) == 5
    assert store.meta("success").all()
    assert set(store.meta_names) >= {"success", "seed", "mode", "quality", "return"}
    assert store.provenance["task"] == TASK and store.provenance["versions"]["robosuite"] == "1.5.2"
    seeds = store.meta("seed")
    assert (np.diff(seeds) > 0).all() and seeds.max() < 100_000
    episode = store.episode(0)
    assert episode["reward"][-1] == 1 and episode["terminated"][-1] and not episode["terminated"][:-1].any()
    assert np.allclose(np.diff(episode["time"]), 1 / 20)


def test_recorded_states_replay_to_the_recorded_observations(collected: Path) -> None:
    episode = EpisodeStore.open(collected).episode(1)
    env = sim_envs.make(TASK)
    observation = env.set_state(episode["sim_state"][0])
    for t, action in enumerate(episode["action"]):
        for key in ("robot0_eef_pos", "object"):
            assert np.array_equal(observation[key], episode[key][t])
        observation, *_, info = env.step(action)
    assert info["success"]
    env.close()


def test_continues_to_the_asked_number_and_equals_an_uninterrupted_run(
    collected: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lift.zarr"
    for episodes in (1, 1, 3):
        assert run(CollectConfig(task=TASK, episodes=episodes, out=str(path), workers="1")) == 0
    one, other = EpisodeStore.open(collected), EpisodeStore.open(path)
    assert len(other) == 3 and one.keys == other.keys
    for i in range(3):
        left, right = one.episode(i), other.episode(i)
        assert all(np.array_equal(left[key], right[key]) for key in one.keys)


def test_killed_and_resumed_has_every_seed_once(collected: Path, tmp_path: Path) -> None:
    path = tmp_path / "lift.zarr"
    command = [
        sys.executable,
        "-m",
        "diffbot.cli.main",
        "collect",
        f"task={TASK}",
        f"out={path}",
        "workers=2",
    ]
    process = subprocess.Popen([*command, "episodes=3"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and len(EpisodeStore.open(path)) >= 1:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(EpisodeStore.open(path)) <= 3
    subprocess.run([*command, "episodes=3"], check=True, stdout=subprocess.DEVNULL)
    store, whole = EpisodeStore.open(path), EpisodeStore.open(collected)
    assert np.array_equal(store.meta("seed"), whole.meta("seed")[:3])
    assert np.array_equal(
        store.load(["action"])["action"], np.concatenate([whole.episode(i)["action"] for i in range(3)])
    )


def test_a_dead_worker_is_replaced_and_its_seed_played() -> None:
    with WorkerPool(JOB, 2) as pool:
        episodes = pool.episodes(iter(range(6)))
        first = next(episodes)
        os.kill(pool.pids[0], signal.SIGKILL)
        seeds = [first.seed, *(episode.seed for episode in episodes)]
        pids = pool.pids
        assert pool.replaced == 1
    assert seeds == list(range(6))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_images_are_recorded_for_kept_episodes(tmp_path: Path) -> None:
    path = tmp_path / "images.zarr"
    config = CollectConfig(
        task=TASK, episodes=1, out=str(path), workers="1", cameras=["agentview"], image_size=[24, 32]
    )
    assert run(config) == 0
    store = EpisodeStore.open(path)
    images = store.episode(0)["agentview_image"]
    assert images.shape[1:] == (24, 32, 3) and images.dtype == np.uint8 and images.std() > 10
    env = sim_envs.make(TASK, cameras=("agentview",), image_size=(24, 32))
    assert np.array_equal(env.reset(seed=int(store.meta("seed")[0]))[0]["agentview_image"], images[0])
    env.close()


def test_another_collection_in_the_same_place_is_refused(collected: Path) -> None:
    before = EpisodeStore.open(collected).meta("seed")
    with pytest.raises(DataError, match="quality='expert', not 'good'"):
        run(CollectConfig(task=TASK, out=str(collected), quality="good"))
    with pytest.raises(DataError, match="resume=true"):
        run(CollectConfig(task=TASK, out=str(collected), resume=False))
    assert np.array_equal(EpisodeStore.open(collected).meta("seed"), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=robosuite/lfit"], "Did you mean 'robosuite/lift'"),
        ([f"task={TASK}", "quality=expret"], "Did you mean 'expert'"),
        ([f"task={TASK}", "seed=100000"], "evaluation"),
        ([f"task={TASK}", "episodes=0"], "at least 1"),
        ([f"task={TASK}", "workers=many"], "workers"),
        ([f"task={TASK}", "cameras=[agentveiw]"], "Did you mean 'agentview'"),
        ([], "task"),
    ],
)
def test_bad_requests_get_one_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", *arguments, f"out={tmp_path / 'x.zarr'}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.zarr").exists()


def test_default_paths_tell_collections_apart() -> None:
    assert str(default_path(CollectConfig(task=TASK))) == "datasets/lift.zarr"
    assert str(default_path(CollectConfig(task=TASK, cameras=["agentview"]))) == "datasets/lift_images.zarr"
    assert (
        str(default_path(CollectConfig(task="pusht/state", quality="good")))
        == "datasets/pusht_state_good.zarr"
    )
    with pytest.raises(ConfigError):
        run(CollectConfig(task=TASK, image_size=[3]))


@pytest.mark.parametrize(
    "recipe",
    sorted((Path(__file__).parents[2] / "datasets" / "recipes").glob("lift*.yaml")),
    ids=lambda path: path.stem,
)
def test_recipes_are_valid_settings_and_match_their_command(recipe: Path) -> None:
    text = recipe.read_text()
    settings = yaml.safe_load(text)
    rendered = [
        f"{key}=[{','.join(str(v) for v in value)}]" if isinstance(value, list) else f"{key}={value}"
        for key, value in settings.items()
    ]
    config = parse(CollectConfig, rendered)
    command = shlex.split(text.splitlines()[0].removeprefix("# diffbot collect"))
    assert parse(CollectConfig, command) == config
    assert default_path(config) == Path(config.out)
