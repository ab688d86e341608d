"""LSTM-GMM (Q17): a recurrent mixture of Gaussians, robomimic's strongest imitation baseline ("BC-RNN")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffbot.data.batch import Batch
from diffbot.data.contract import Contract
from diffbot.data.window_spec import WindowSpec
from diffbot.errors import ConfigError
from diffbot.methods.imitation import ImitationConfig, ImitationPolicy, masked_mean, selected_keys
from diffbot.methods.mixture import MixtureHead
from diffbot.methods.protocol import Observation, Prefix, blend
from diffbot.methods.registry import register
from diffbot.networks.seeding import seeded


@dataclass(frozen=True)
class LSTMGMMConfig(ImitationConfig):
    """Settings of LSTM-GMM; "paper" is robomimic's BC-RNN on low-dimensional observations."""

    observation_horizon: int = 10  # steps that the recurrence looks back when acting; paper: 10
    horizon: int = 1  # one action a step; paper: 1
    action_horizon: int = 1
    sequence: int = 10  # supervised steps of a training window; paper: 10
    width: int = 400  # units of the LSTM; paper: 400
    layers: int = 2  # paper: 2
    modes: int = 5  # paper: 5
    min_std: float = 1e-2  # in normalised units; paper: 1e-4
    sampling_noise: float = 0.0  # paper: nearly 0 ("low-noise evaluation")
    mask_padding: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon != 1:
            raise ConfigError(f"lstm_gmm predicts one step: method.horizon=1, got {self.horizon}")
        for name in ("sequence", "width", "layers", "modes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


@register(
    name="lstm_gmm",
    role="baseline",
    system="Q17",
    paper="Mandlekar et al., What Matters in Learning from Offline Human Demonstrations, CoRL 2021",
    config=LSTMGMMConfig,
)
class LSTMGMM(ImitationPolicy):
    """The LSTM runs over the history from a zero state; the mixture is read off at each supervised step.

    Acting runs it over the last `observation_horizon` observations, which training sees too: its windows begin with
    that history (padded at the start of an episode) and supervise the newest step of it and the steps after it.
    """

    Config = LSTMGMMConfig
    config: LSTMGMMConfig
    head: nn.Module

    @classmethod
    def window(cls, config: LSTMGMMConfig, contract: Contract) -> WindowSpec:
        """History and supervised steps, observed throughout."""
        keys = selected_keys(config, contract)
        return WindowSpec(config.observation_horizon, config.sequence, keys, observe_future=True)

    def build(self, seed: int) -> nn.ModuleDict:
        """`encoder` of one step, `recurrence` and mixture `head`."""
        config = self.config
        encoder = self.build_encoder(seed, steps=1)
        with seeded(seed + 1):
            recurrence = nn.LSTM(encoder.condition_dim, config.width, config.layers, batch_first=True)
            head = MixtureHead(config.width, self.action_dim, config.modes, config.min_std)
        return nn.ModuleDict({"encoder": encoder, "recurrence": recurrence, "head": head})

    def features(self, model: nn.ModuleDict, observation: Observation) -> Tensor:
        """Hidden states [B, T, width] for observations {key: [B, T, ...]}."""
        first = observation[self.keys[0]]
        single = {key: observation[key].flatten(0, 1).unsqueeze(1) for key in self.keys}
        encoded = self.encoded(model["encoder"], single).unflatten(0, first.shape[:2])
        hidden, _ = model["recurrence"](encoded)
        return hidden

    def loss(
        self, model: nn.ModuleDict, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood per number, over the supervised steps within the episode."""
        hidden = self.features(model, batch.observations)[:, -self.config.sequence :]
        likelihood = model["head"](hidden).log_likelihood(batch.actions)
        mask = batch.mask if self.config.mask_padding else None
        return -masked_mean(likelihood, mask) / self.action_dim, {}

    def act(
        self, observation: Observation, *, generator: torch.Generator, prefix: Prefix | None = None
    ) -> Tensor:
        """A mode drawn by its weight, as a chunk of one step [B, 1, A]."""
        hidden = self.features(self.model, observation)[:, -1]
        actions = self.head(hidden).sample(self.config.sampling_noise, generator)
        return blend(actions[:, None], prefix)
