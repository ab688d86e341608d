"""The control benchmark keeps its finished cells and measures jumps where they are."""

import json

import numpy as np
import pytest
from control_cases import make_policy

import sim_envs
from benchmarks import _control_policies, control
from diffbot.data.contract import Contract
from diffbot.errors import ConfigError
from diffbot.evaluation.rollout import Episode
from diffbot.methods.bundle import load_bundle, save_bundle


def test_a_finished_cell_is_read_until_something_changes(tmp_path):
    env = sim_envs.make("pusht/state")
    contract = Contract.from_dict(env.unwrapped.contract())
    env.close()
    policy = make_policy(contract, network="mlp")
    save_bundle(
        tmp_path / "policy",
        name="diffusion_policy",
        method=policy.method,
        transforms=policy.transforms,
        contract=contract,
        report={},
    )
    settings = {
        "tasks": ("pusht",),
        "pusht": str(tmp_path / "policy"),
        "modes": ("switch", "rtc"),
        "delays": (0, 4),
        "episodes": 2,
        "horizon": 12,
        "folder": str(tmp_path / "cells"),
        "figure": str(tmp_path / "figure.png"),
    }
    first = control.run(control.Config(**settings))
    files = sorted((tmp_path / "cells" / "cells").iterdir())
    assert len(files) == 4 and (tmp_path / "figure.png").stat().st_size > 1000
    assert {f"pusht.rtc.delay4.{name}" for name in ("success", "coverage", "seam_jump")} <= set(first.figures)
    assert "pusht.in_chunk_step" in first.figures and first.seeds == [310000, 310001]
    marked = json.loads(files[0].read_text()) | {"success": 0.125}
    files[0].write_text(json.dumps(marked))
    again = control.run(control.Config(**settings))
    assert 0.125 in [row["success"] for row in again.rows]
    other = settings | {"seed": 310001, "modes": ("switch",), "delays": (0,)}
    assert not control.run(control.Config(**other | {"finished": True, "figure": ""})).rows
    control.run(control.Config(**other))
    assert len(list((tmp_path / "cells" / "cells").iterdir())) == 5


def test_jumps_are_told_from_steps_and_the_wait_is_left_out():
    actions = np.array([[0.0, 0], [0.0, 0], [1.0, 0], [1.1, 5], [1.5, 0], [1.6, 0]], np.float32)
    episode = Episode(0, actions=actions, seams=[2, 4])
    seams, steps = control.changes(episode, np.array([True, False]), delay=2)
    assert seams == pytest.approx([0.4]) and steps == pytest.approx([0.1, 0.1])


def test_unknown_tasks_are_named():
    with pytest.raises(ConfigError, match="lift, pusht"):
        control.run(control.Config(tasks=("pushed",)))


@pytest.mark.slow
def test_policies_are_trained_where_none_is_given(tmp_path, monkeypatch):
    recipe = _control_policies.Task("pusht/state", 2, 3, {"prediction": "sample"})
    monkeypatch.setitem(_control_policies.TASKS, "pusht", recipe)
    bundle = _control_policies.bundle_of("pusht", "", tmp_path)
    assert load_bundle(bundle).contract.task == "pusht/state"
    before = (bundle / "policy.safetensors").read_bytes()
    assert _control_policies.bundle_of("pusht", "", tmp_path) == bundle
    assert (bundle / "policy.safetensors").read_bytes() == before
