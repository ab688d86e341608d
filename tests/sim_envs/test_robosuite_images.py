"""Images: upright, equal to MuJoCo's own renderer, equal in playback."""

from __future__ import annotations

import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

import sim_envs
from sim_envs.recording import record_episode, render_states
from sim_envs.rendering import Renderer, open_context


def test_image_equals_mujocos_own_renderer_and_is_upright(monkeypatch: pytest.MonkeyPatch) -> None:
    env = sim_envs.make("robosuite/lift", cameras=("agentview",), image_size=(64, 96))
    observation, _ = env.reset(seed=0)
    image = observation["agentview_image"]
    assert image.shape == (64, 96, 3) and image.dtype == np.uint8

    # The oracle draws the same geoms with its defaults otherwise; shadows and edges differ, the picture does not.
    model, data = env.raw.sim.model._model, env.raw.sim.data._data
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[1] = 1
    option.sitegroup[:] = 0
    monkeypatch.setattr("mujoco.rendering.classic.gl_context.GLContext", type(open_context()), raising=False)
    with mujoco.Renderer(model, 64, 96) as oracle:
        oracle.update_scene(data, "agentview", option)
        theirs = oracle.render()
    difference = np.abs(image.astype(float) - theirs).mean()
    assert difference < 6.0
    assert np.abs(image[::-1].astype(float) - theirs).mean() > 3 * difference
    env.close()


def test_higher_things_are_higher_in_the_image() -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><light pos='0 -2 2'/><camera name='c' pos='0 -2 0' xyaxes='1 0 0 0 0 1'/>"
        "<geom type='sphere' size='.2' pos='0 0 .5' rgba='1 0 0 1'/></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model)
    image = renderer.render(data, "c", 60, 40)
    rows = np.nonzero(image[..., 0] > 60)[0]
    assert rows.size and rows.mean() < 25  # the ball is above the camera's axis
    assert renderer.render(data, "c", 30, 90).shape == (30, 90, 3)
    with pytest.raises(sim_envs.SimEnvError, match="Valid: c"):
        renderer.render(data, "d", 8, 8)
    with pytest.raises(sim_envs.SimEnvError, match="2048"):
        renderer.render(data, "c", 5000, 8)
    renderer.close()
    renderer.close()


def test_playback_gives_the_observed_images() -> None:
    env = sim_envs.make("robosuite/lift", cameras=("robot0_eye_in_hand",), image_size=(32, 32), horizon=6)
    recording = record_episode(env, sim_envs.expert("robosuite/lift", seed=3), seed=3)
    played = render_states(env, recording.states, ("robot0_eye_in_hand",), (32, 32))
    assert np.array_equal(
        played["robot0_eye_in_hand_image"], recording.observations["robot0_eye_in_hand_image"]
    )
    env.close()


def test_hard_reset_keeps_rendering() -> None:
    env = sim_envs.make("robosuite/lift", cameras=("agentview",), image_size=(16, 16), hard_reset=True)
    first = env.reset(seed=1)[0]
    env.reset(seed=2)
    again = env.reset(seed=1)[0]
    assert all(np.array_equal(first[key], again[key]) for key in first)
    env.close()


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_both_backends_draw_and_end_quietly(backend: str) -> None:
    """An environment that nobody closed leaves no noise behind; a backend that is missing falls back to the other."""
    code = (
        "import sim_envs; env = sim_envs.make('robosuite/lift'); env.reset(seed=0);"
        "print(env.render_image('agentview', 24, 24).std() > 20)"
    )
    environment = {**os.environ, "MUJOCO_GL": backend}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (out.stdout.strip(), out.stderr) == ("True", "")


def test_no_opengl_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *size: int) -> None:
            raise RuntimeError("no display")

    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")
    monkeypatch.setattr("mujoco.egl.GLContext", Broken)
    with pytest.raises(sim_envs.SimEnvError, match=r"no display.*apt install libegl1.*libosmesa6"):
        open_context()
