"""The training loop of an agent that gathers its own data: explore, update, now and then evaluate and save."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.replay import join
from diffbot.data.transforms import TransformGroup
from diffbot.methods.protocol import Explores
from diffbot.training.accelerator import FabricAccelerator
from diffbot.training.checkpoint import save_checkpoint
from diffbot.training.config import TrainingConfig
from diffbot.training.explorer import Explorer
from diffbot.training.metrics import MetricsLog, RunningMean
from diffbot.training.online_config import OnlineConfig
from diffbot.training.progress import TrainingProgress
from diffbot.training.replay_synthesis import ReplaySynthesis
from diffbot.training.signals import StopRequest
from diffbot.training.trainer import NonFiniteLossError, Outcome


class OnlineTrainer:
    """Counts in environment steps. Everything that a later step depends on is in the checkpoint, the replay included.

    A resumed run repeats the uninterrupted one exactly (bit for bit on CPU).
    explorer: behind its random steps. transforms: fitted. make_env: another environment of the task, for evaluation.
    """

    def __init__(
        self,
        method: Explores,
        explorer: Explorer,
        transforms: TransformGroup,
        make_env: Callable[[], Any],
        online: OnlineConfig,
        training: TrainingConfig,
        folder: Path,
        accelerator: FabricAccelerator,
        *,
        contract: Contract,
        seed: int,
        title: str = "train",
    ) -> None:
        self.method, self.explorer, self.replay = method, explorer, explorer.buffer
        self.transforms, self.make_env = transforms, make_env
        self.online, self.training, self.folder = online, training, folder
        self.accelerator, self.seed, self.title = accelerator, seed, title
        self.synthesis = (
            ReplaySynthesis(online.synthesis, contract.select(self.replay.keys), accelerator, seed)
            if online.synthesis.every
            else None
        )
        self.rng = np.random.default_rng([seed, 11])
        self.noise = torch.Generator(accelerator.device).manual_seed(seed * 1013 + 5)
        self.means, self.episodes = RunningMean(), RunningMean()
        self.step = self.replay.count
        self.seconds = 0.0
        self.latest: dict[str, float] = {}
        self.latest_evaluation: dict[str, float] = {}
        self.on_save: Callable[[], None] | None = None  # called after each checkpoint
        self._stop = StopRequest()
        self._evaluation_env: Any = None
        method.begin_training(accelerator, seed)

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.folder / "checkpoints"

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on."""
        return {
            "method": self.method.training_state(),
            "explorer": self.explorer.state(),
            "replay": self.replay.state(),
            "synthesis": None if self.synthesis is None else self.synthesis.state(),
            "rng": self.rng.bit_generator.state,
            "noise": self.noise.get_state(),
            "means": self.means.state(),
            "episodes": self.episodes.state(),
            "latest": self.latest,
            "latest_evaluation": self.latest_evaluation,
            "step": self.step,
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.method.load_training_state(state["method"])
        self.replay.load_state(state["replay"])
        self.explorer.load_state(state["explorer"])
        if self.synthesis is not None:
            self.synthesis.load_state(state["synthesis"], self.replay.keys)
        self.rng.bit_generator.state = state["rng"]
        self.noise.set_state(state["noise"])
        self.means.load(state["means"])
        self.episodes.load(state["episodes"])
        self.latest, self.latest_evaluation = dict(state["latest"]), dict(state["latest_evaluation"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Explore and learn until the steps are spent, the return is reached or a signal asks to stop; then save.

        Raises NonFiniteLossError for losses or weights that are not finite.
        """
        online, training = self.online, self.training
        log = MetricsLog(self.folder, self.step, training.tensorboard)
        clock = time.monotonic() - self.seconds
        saved = -1
        with self._stop.listening(), TrainingProgress(self.title) as bar:
            try:
                while self.step < online.steps and not self._reached() and not self._stop:
                    self._advance(log)
                    self.seconds = time.monotonic() - clock
                    if self.step % training.log_every == 0:
                        self._write_means(log)
                        bar.show(self.step / online.steps, self._note())
                    if online.evaluate_every and self.step % online.evaluate_every == 0:
                        self.latest_evaluation = self.evaluate()
                        log.write(self.step, self.latest_evaluation, "evaluation")
                    if self.step % training.checkpoint_every == 0:
                        self.save()
                        saved = self.step
                if self.step != saved:
                    self.save()
            finally:
                log.close()
                if self._evaluation_env is not None:
                    self._evaluation_env.close()
        return Outcome(self.step, self.seconds, self._stop.name, self.latest | self.latest_evaluation)

    def _reached(self) -> bool:
        """Whether the newest evaluation has the return that is asked for."""
        target, found = self.online.until_return, self.latest_evaluation.get("return")
        return target is not None and found is not None and found >= target

    def _advance(self, log: MetricsLog) -> None:
        """One environment step and the updates that belong to it."""
        ended = self.explorer.step(self._action(self.explorer.observation, explore=True))
        self.step += 1
        if ended is not None:
            self.episodes.add(
                {"return": ended.reward, "length": ended.steps, "success": float(ended.success)}
            )
        synthesis = self.synthesis
        if synthesis is not None and self.step % self.online.synthesis.every == 0:
            log.write(self.step, synthesis.renew(self.replay), "synthesis")
        for _ in range(self.online.updates_per_step):
            batch = self.transforms.forward_batch(self.batch().to(self.accelerator.device))
            self.means.add(self.method.update(batch, progress=self.step / self.online.steps))

    def batch(self) -> Batch:
        """Transitions of the replay; where there are synthetic ones, those make up `synthesis.ratio` of it."""
        size = self.training.batch_size
        drawn = None if self.synthesis is None else self.synthesis.drawn
        if drawn is None:
            return self.replay.sample(size, self.rng)
        synthetic = round(self.online.synthesis.ratio * size)
        return join(self.replay.sample(size - synthetic, self.rng), drawn.sample(synthetic, self.rng))

    @torch.no_grad()
    def _action(self, observation: dict[str, np.ndarray], *, explore: bool) -> np.ndarray:
        device = self.accelerator.device
        raw = {key: torch.from_numpy(observation[key])[None, None].to(device) for key in self.replay.keys}
        choose = self.method.explore if explore else self.method.act
        # The acting policy's noise is its own, so that evaluations leave exploration as it is.
        generator = self.noise if explore else torch.Generator(device).manual_seed(self.seed)
        action = choose(self.transforms.forward(raw), generator=generator)
        raw_action = self.transforms.inverse({"action": action}, context=raw)["action"][0, 0]
        return raw_action.cpu().numpy().astype(self.replay.arrays["action"].numpy().dtype)

    def evaluate(self) -> dict[str, float]:
        """Mean "return", "success" and "length" of the policy that acts, over whole episodes on fixed seeds."""
        if self._evaluation_env is None:
            self._evaluation_env = self.make_env()
        env, means = self._evaluation_env, RunningMean()
        first = self.online.evaluation_seed
        for seed in range(first, first + self.online.evaluation_episodes):
            observation, _ = env.reset(seed=seed)
            total, length, success, over = 0.0, 0, False, False
            while not over:
                step = env.step(self._action(observation, explore=False))
                observation, reward, terminated, truncated, info = step
                total, length = total + float(reward), length + 1
                success |= bool(info.get("success", False))
                over = terminated or truncated
            means.add({"return": total, "success": float(success), "length": length})
        return means.take()

    def _write_means(self, log: MetricsLog) -> None:
        self.latest = self.means.take()
        if not np.isfinite(self.latest["loss"]):
            raise NonFiniteLossError(
                f"the loss is {self.latest['loss']} in the steps up to {self.step}. {self._advice()}"
            )
        if self.episodes.count:
            self.latest |= {f"episode_{name}": value for name, value in self.episodes.take().items()}
        log.write(self.step, self.latest)

    def _note(self) -> str:
        score = self.latest_evaluation.get("return")
        return f"step {self.step}" + (f"  return {score:.1f}" if score is not None else "")

    def save(self) -> None:
        """Write a checkpoint, then the bundle. Raises NonFiniteLossError rather than keep bad weights."""
        bad = [n for n, t in self.method.policy_state().items() if not bool(torch.isfinite(t).all())]
        if bad:
            raise NonFiniteLossError(
                f"the weights {', '.join(bad[:3])} are not finite after step {self.step}. {self._advice()}"
            )
        save_checkpoint(self.checkpoints, self.step, self.state(), self.training.keep)
        if self.on_save is not None:
            self.on_save()

    def _advice(self) -> str:
        return (
            "The checkpoints before it are kept in the run's folder. Lower the learning rates "
            "(method.optimizer.learning_rate, method.critic_optimizer.learning_rate) or online.updates_per_step"
        )
