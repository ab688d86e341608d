"""The teleoperation loop in the real Lift task, led by a device whose inputs are computed from what it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim_envs
from diffbot.cli.collect_config import CollectConfig
from diffbot.cli.collect_device import StoreArchive, drop_last
from diffbot.data.contract import Contract
from diffbot.data.store import EpisodeStore
from sim_envs.teleoperation import Command, DeviceLostError, Input, TeleoperationSession, View
from sim_envs.teleoperation.episode import TAIL, trim

UP = np.array([0, 0, 0.5, 0, 0, 0])
STILL = np.zeros(6)


class Operator:
    """Plays a list of inputs, one each control step; after them the device is unplugged."""

    name, help, shows_images = "operator", "", False

    def __init__(self, *inputs: Input) -> None:
        self.inputs = list(inputs)
        self.views: list[View] = []

    def read(self) -> Input:
        if not self.inputs:
            raise DeviceLostError("the operator was unplugged")
        return self.inputs.pop(0)

    def show(self, view: View) -> None:
        self.views.append(view)

    def close(self) -> None:
        pass


def say(command: Command) -> Input:
    return Input(commands=(command,))


def move(steps: int, twist: np.ndarray = UP, grip: float = -1.0) -> list[Input]:
    return [Input(twist, grip)] * steps


@pytest.fixture(scope="module")
def env() -> Iterator[sim_envs.TaskEnv]:
    env = sim_envs.make("robosuite/lift", horizon=1000)
    yield env
    env.close()


def teleoperate(
    env, path: Path, *inputs: Input, episodes: int = 9
) -> tuple[str, TeleoperationSession, EpisodeStore]:
    store = EpisodeStore.create(path, Contract.from_dict(env.unwrapped.contract()))
    config = CollectConfig(task="robosuite/lift", device="operator")
    device = Operator(*inputs)
    session = TeleoperationSession(
        env, device, StoreArchive(store, env, config, "ada"), seeds=iter(range(7, 99)), episodes=episodes,
        realtime=False,
    )  # fmt: skip
    return session.run(), session, store


def test_pauses_are_trimmed_and_labels_kept(env, tmp_path: Path) -> None:
    outcome, _, store = teleoperate(
        env, tmp_path / "a.zarr", say(Command.START), *move(6, STILL), *move(8), *move(30, STILL),
        say(Command.SUCCESS), say(Command.STOP), say(Command.QUIT),
    )  # fmt: skip
    assert outcome == "quit" and len(store) == 1
    arrays, meta = store.episode(0), store.episode_meta(0)
    assert len(arrays["action"]) == 8 + TAIL
    assert arrays["action"][:8, 2] == pytest.approx(0.5) and not arrays["action"][8:, :6].any()
    assert arrays["time"][0] == 0.0 and arrays["time"][-1] == pytest.approx((7 + TAIL) / 20.0)
    assert bool(meta["success"]) and str(meta["labelled_by"]) == "operator" and str(meta["operator"]) == "ada"
    assert arrays["robot0_eef_pos"][-1, 2] > arrays["robot0_eef_pos"][0, 2] + 0.05


def test_unplugged_device_stops_the_arm_and_keeps_the_episode(env, tmp_path: Path) -> None:
    outcome, session, store = teleoperate(env, tmp_path / "a.zarr", say(Command.START), *move(8))
    assert outcome == "lost" and "unplugged" in session.message and "stopped" in session.message
    assert len(store) == 1 and str(store.episode_meta(0)["ended"]) == "device lost"
    arrays = store.episode(0)
    assert not arrays["action"][8:, :6].any() and len(arrays["action"]) == 8 + TAIL
    heights = arrays["robot0_eef_pos"][:, 2]
    assert abs(heights[-1] - heights[-2]) < 5e-4 < heights[5] - heights[4]


def test_unplugged_before_a_start_keeps_nothing(env, tmp_path: Path) -> None:
    outcome, session, store = teleoperate(env, tmp_path / "a.zarr", *move(3))
    assert outcome == "lost" and len(store) == 0 and "no episode" in session.message


def test_discard_and_undo_play_the_seed_again(env, tmp_path: Path) -> None:
    episode = [say(Command.START), *move(4), say(Command.STOP)]
    outcome, session, store = teleoperate(
        env, tmp_path / "a.zarr",
        say(Command.START), *move(4), say(Command.DISCARD), *episode, *episode, say(Command.UNDO), *episode,
        say(Command.STOP), *episode, episodes=3,
    )  # fmt: skip
    assert outcome == "done" and store.meta("seed").tolist() == [7, 8, 9]
    views = session.device.views
    assert [v.stored for v in views if v.fresh] == [0, 0, 1, 2, 1, 2]
    assert any("deleted the last episode; 1 are kept" in v.message for v in views)
    assert any("nothing is being recorded" in v.message for v in views)


def test_undo_never_touches_older_episodes(env, tmp_path: Path) -> None:
    _, session, store = teleoperate(env, tmp_path / "a.zarr", say(Command.UNDO), say(Command.QUIT))
    assert len(store) == 0
    assert any("no episode that could be undone" in v.message for v in session.device.views)
    episode = [say(Command.START), *move(4), say(Command.STOP)]
    _, _, store = teleoperate(env, tmp_path / "b.zarr", *episode, *episode, say(Command.QUIT))
    first = store.episode(0)
    drop_last(store)
    again = EpisodeStore.open(store.path, "a")
    assert len(again) == 1 and not again.tail
    for key, value in again.episode(0).items():
        np.testing.assert_array_equal(value, first[key])
    again.append(first, again.episode_meta(0))
    assert len(EpisodeStore.open(store.path)) == 2


def test_an_episode_without_motion_is_not_kept(env, tmp_path: Path) -> None:
    _, session, store = teleoperate(
        env, tmp_path / "a.zarr", say(Command.START), *move(5, STILL), say(Command.STOP), say(Command.QUIT)
    )
    assert len(store) == 0 and any("nothing moved" in v.message for v in session.device.views)


def test_tasks_without_a_gripper_are_refused() -> None:
    env = (
        sim_envs.make("pusht/state")
        if "pusht/state" in sim_envs.tasks()
        else sim_envs.make(sim_envs.tasks("pusht")[0])
    )
    with pytest.raises(sim_envs.SimEnvError, match="cannot be teleoperated"):
        TeleoperationSession(env, Operator(), [], seeds=iter(range(9)), episodes=1)  # type: ignore[arg-type]
    env.close()


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_trim_keeps_every_motion_and_the_success(steps: list[tuple[bool, bool]]) -> None:
    active, success = (np.array(column, bool) for column in zip(*steps, strict=True))
    kept = trim(active, success)
    if kept is None:
        assert not active.any()
        return
    assert not active[: kept.start].any() and active[kept.start]
    assert not active[kept.stop :].any() and 0 <= kept.start < kept.stop <= len(active)
    assert success[kept.stop - 1] or not success[-1]


def test_undo_killed_half_way_leaves_a_whole_dataset(
    env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = [say(Command.START), *move(4), say(Command.STOP)]
    _, _, store = teleoperate(env, tmp_path / "a.zarr", *episode, *episode, say(Command.QUIT))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("diffbot.cli.collect_device.cut", killed)
        with pytest.raises(KeyboardInterrupt):
            drop_last(store)
    assert len(EpisodeStore.open(store.path)) == 1
    with pytest.warns(UserWarning, match="1 committed episodes are intact"):
        repaired = EpisodeStore.open(store.path, "a")
    assert len(repaired) == 1 and repaired.meta("seed").tolist() == [7]
