"""An agent that explores a point on a line: what enters its replay, exact resume, synthesis, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sim_envs
from diffbot.cli.main import main
from diffbot.control import PolicyRunner
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.replay import ReplayBuffer
from diffbot.errors import ConfigError, ContractError
from diffbot.methods.bundle import load_bundle
from diffbot.methods.registry import build_config
from diffbot.training.checkpoint import newest_checkpoint
from diffbot.training.config import TrainingConfig
from diffbot.training.explorer import Explorer, action_range
from diffbot.training.metrics import read_metrics
from diffbot.training.online_config import OnlineConfig, SynthesisConfig
from diffbot.training.online_run import OnlineSpec, is_online, read_spec, resume, start

CONTRACT = Contract(
    {"x": Field((1,))}, Action((1,), low=(-2.0,), high=(2.0,), meaning="delta"), rate=10.0, task="toy/line"
)
SYNTHESIS = SynthesisConfig(
    every=100,
    steps=20,
    transitions=300,
    batch_size=64,
    options={"network_options": {"width": 32, "depth": 2}},
)


class Line:
    """x' = x + a / 8, r = 1 - |x'|. Time limit of 20 steps; behind |x| > 1.5 the episode terminates."""

    def __init__(self) -> None:
        self.x, self.age = 0.0, 0
        self.unwrapped = self

    def contract(self) -> dict[str, Any]:
        return CONTRACT.to_dict()

    def reset(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.x, self.age = float(np.random.default_rng(seed).uniform(-1, 1)), 0
        return self.observe(), {"success": False}

    def observe(self) -> dict[str, np.ndarray]:
        return {"x": np.array([self.x], np.float32)}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        assert action.dtype == np.float32 and np.abs(action).max() <= 2.0
        self.x, self.age = self.x + float(action[0]) / 8.0, self.age + 1
        out = abs(self.x) > 1.5
        return (
            self.observe(),
            1.0 - abs(self.x),
            out,
            self.age >= 20 and not out,
            {"success": abs(self.x) < 0.1},
        )

    def get_state(self) -> np.ndarray:
        return np.array([self.x, self.age])

    def set_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
        self.x, self.age = float(state[0]), int(state[1])
        return self.observe()

    def close(self) -> None:
        pass


def spec(steps: int = 300, synthesis: SynthesisConfig | None = None, **settings: Any) -> OnlineSpec:
    small = {"width": 32, "critic": {"width": 32}, **settings}
    online = OnlineConfig(
        steps=steps,
        random_steps=60,
        evaluate_every=150,
        evaluation_episodes=2,
        synthesis=synthesis or SynthesisConfig(),
    )
    training = TrainingConfig(batch_size=32, log_every=30, checkpoint_every=70, threads=1, tensorboard=False)
    return OnlineSpec("sac", build_config("sac", small), "toy/line", online, training, 3)


def test_a_time_limit_is_no_termination() -> None:
    buffer = ReplayBuffer(CONTRACT, ("x",), 100)
    explorer = Explorer(Line(), buffer, 0)
    first = float(explorer.observation["x"][0])
    ended = [explorer.step(np.zeros(1, np.float32)) for _ in range(20)]
    assert ended[:-1] == [None] * 19
    assert ended[-1] is not None and ended[-1].steps == 20
    assert ended[-1].reward == pytest.approx(20 * (1 - abs(first)), rel=1e-5)
    # The row at the limit has its own successor, not the start of the next episode, and that successor's value counts.
    assert not buffer.arrays["terminated"][:20].any()
    assert float(buffer.arrays["next_x"][19]) == pytest.approx(first)
    assert float(explorer.observation["x"][0]) != pytest.approx(first)
    while not (gone := explorer.step(np.full(1, 2.0, np.float32))):
        pass
    assert buffer.arrays["terminated"][: len(buffer)].tolist() == [False] * (len(buffer) - 1) + [True]
    assert float(buffer.arrays["next_x"][len(buffer) - 1]) > 1.5 and gone.steps < 20


def test_an_episode_of_a_simulator_goes_on_exactly() -> None:
    def explorer() -> Explorer:
        env: Any = sim_envs.make("pointmaze/umaze")
        contract = Contract.from_dict(env.unwrapped.contract())
        return Explorer(env, ReplayBuffer(contract, contract.state_keys, 400), 5)

    actions = np.random.default_rng(0).uniform(-1, 1, (340, 2)).astype(np.float32)
    whole, part = explorer(), explorer()
    for action in actions[:40]:
        whole.step(action)
    part.load_state(whole.state())
    part.buffer.load_state(whole.buffer.state())
    for action in actions[40:]:  # beyond the time limit of 300 steps
        whole.step(action)
        part.step(action)
    assert whole.episode == part.episode == 1
    for name, array in whole.buffer.arrays.items():
        assert torch.equal(array, part.buffer.arrays[name]), name


@pytest.mark.parametrize("synthesis", [SynthesisConfig(), SYNTHESIS], ids=["plain", "synthesis"])
def test_resumed_equals_uninterrupted(tmp_path: Path, synthesis: SynthesisConfig) -> None:
    given = spec(synthesis=synthesis, normalization="mean_std")
    start(given, tmp_path / "whole", Line)
    start(replace(given, online=replace(given.online, steps=170)), tmp_path / "part", Line)
    assert is_online(tmp_path / "part") and not is_online(tmp_path)
    assert resume(tmp_path / "part", Line, steps=300).outcome.step == 300
    whole, part = tmp_path / "whole", tmp_path / "part"
    for kind in ("train", "evaluation"):
        assert read_metrics(part, kind) == read_metrics(whole, kind)
    ours, theirs = (load_file(folder / "policy/policy.safetensors") for folder in (part, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    newest = [
        (folder / "checkpoints/step_00000300/state.safetensors").read_bytes() for folder in (whole, part)
    ]
    assert newest[0] == newest[1]


def test_half_of_each_batch_is_synthetic_and_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffbot.training import online

    shares = []
    plain = online.OnlineTrainer.batch

    def watched(self: online.OnlineTrainer) -> Any:
        batch = plain(self)
        real = set(self.replay.arrays["reward"][: len(self.replay)].tolist())
        assert batch.rewards is not None
        shares.append(float(np.mean([value not in real for value in batch.rewards.flatten().tolist()])))
        return batch

    monkeypatch.setattr(online.OnlineTrainer, "batch", watched)
    start(spec(250, replace(SYNTHESIS, ratio=0.25)), tmp_path / "run", Line)
    assert len(shares) == 190
    assert shares[:39] == [0.0] * 39 and shares[39:] == [0.25] * 151
    lines = read_metrics(tmp_path / "run", "synthesis")
    assert [line["step"] for line in lines] == [100, 200]
    assert lines[0]["loss"] != lines[1]["loss"]


def test_settings_are_kept_in_the_run(tmp_path: Path) -> None:
    given = spec(70, SYNTHESIS)
    start(given, tmp_path / "run", Line)
    again, transforms = read_spec(tmp_path / "run")
    assert replace(again, transforms=None) == given
    # The action's range is -1 to 1 for the policy, whatever was drawn.
    low_high = transforms.forward({"action": torch.tensor([[-2.0], [2.0]])})["action"]
    assert torch.equal(low_high, torch.tensor([[-1.0], [1.0]]))
    with pytest.raises(ConfigError, match="holds a run already"):
        start(given, tmp_path / "run", Line)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"method": "iql", "config": build_config("iql", {})},
            "learns from a dataset; methods that explore: sac",
        ),
        ({"training": TrainingConfig(steps=10)}, "budget in environment steps"),
        ({"config": build_config("sac", {"horizon": 2})}, "step by step: method.horizon=1, got 2"),
        ({"training": TrainingConfig(devices="2")}, "one process"),
        ({"training": TrainingConfig(rollout_every=100)}, "online.evaluate_every"),
        ({"online": OnlineConfig(steps=100, random_steps=100)}, "leaves nothing to learn"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        start(replace(spec(), **changes), tmp_path / "run", Line)
    assert not (tmp_path / "run").exists()


def test_ends_at_the_return_that_is_asked_for(tmp_path: Path) -> None:
    given = spec(300)
    given = replace(given, online=replace(given.online, evaluate_every=50, until_return=-1e9))
    assert (
        start(given, tmp_path / "run", Line).outcome.step == 100
    )  # the first evaluation behind the random steps
    assert resume(tmp_path / "run", Line, steps=400).outcome.step == 100


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="until_return needs evaluations"):
        OnlineConfig(until_return=1.0, evaluate_every=0)
    with pytest.raises(ConfigError, match=r"capacity=50 is less than online\.random_steps=100"):
        OnlineConfig(random_steps=100, capacity=50)
    with pytest.raises(ConfigError, match=r"ratio must be within \(0, 1\), got 1"):
        SynthesisConfig(ratio=1.0)
    with pytest.raises(ContractError, match="within the range of its actions"):
        action_range(Contract({"x": Field((1,))}, Action((1,)), rate=1.0))


@pytest.mark.slow
def test_learns_to_stay_at_the_origin(tmp_path: Path) -> None:
    fast = {"learning_rate": 3e-3, "weight_decay": 0.0, "betas": [0.9, 0.999], "warmup": 0}
    fast |= {"schedule": "constant", "gradient_clip": 0.0}
    given = spec(700, optimizer=fast, critic_optimizer=fast, temperature_optimizer=fast, temperature=0.1)
    given = replace(given, online=replace(given.online, evaluate_every=350, evaluation_episodes=10))
    result = start(given, tmp_path / "run", Line)
    # Standing still gives about 20 (1 - 0.5); going to the origin at once about 20 less 1.
    assert result.outcome.metrics["return"] > 16.0
    runner = PolicyRunner(load_bundle(result.bundle))
    assert runner.observe({"x": np.array([0.8], np.float32)}, 0.0)
    action = runner.infer().actions
    assert action.shape == (1, 1) and -2.0 <= float(action[0, 0]) < -0.3


def test_command_trains_resumes_and_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [
        *("method.width=16", "method.critic.width=16", "training.batch_size=16", "training.threads=1"),
        *("training.tensorboard=false", "online.random_steps=30", "online.evaluate_every=0"),
        "online.env={reward: dense}",
    ]
    assert main(["train", "method=sac", "task=pointmaze/umaze", "online.steps=40", *settings]) == 0
    run = tmp_path / "runs/umaze_sac"
    assert main(["train", f"resume={run}", "online.steps=50"]) == 0
    policy = load_bundle(run)
    # Without the dense reward hardly a random step is paid.
    rewards = newest_checkpoint(run / "checkpoints")[1]["replay"]["arrays"]["reward"]
    assert len(rewards) == 50 and float(rewards.min()) > 0.0
    assert policy.report["environment_steps"] == 50 and policy.contract.task == "pointmaze/umaze"
    assert main(["train", "method=sac"]) == 2
    assert main(["train", f"resume={run}", "online.updates_per_step=3"]) == 2


def test_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "method=sac"]) == 2
    assert "explores, so it needs a task" in capsys.readouterr().err
    assert main(["train", "method=sac", "task=pointmaze/umase"]) == 2
    assert "Did you mean 'pointmaze/umaze'" in capsys.readouterr().err
