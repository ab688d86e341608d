"""Joint denoising of several agents: one shared U-Net per agent, attention between agents on skip features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffbot.errors import ConfigError
from diffbot.networks.attention import Attention
from diffbot.networks.base import Network, Sizes, StepCache
from diffbot.networks.condition import Condition
from diffbot.networks.registry import register
from diffbot.networks.unet import UNet, UNetConfig


@dataclass(frozen=True)
class AgentUNetConfig(UNetConfig):
    down_dims: tuple[int, ...] = (64, 128, 256)  # channels per level of the U-Net that all agents share
    heads: int = 4  # attention heads per skip level


class AgentAttention(nn.Module):
    """Residual attention between agents at each time step: [B, N, T, C] -> [B, N, T, C].

    It has no agent positions, so it commutes with permutations of the agents.
    present: bool [B, N]; absent agents are not attended to.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        batch, agents, steps, channels = x.shape
        h = self.norm(x).transpose(1, 2).reshape(batch * steps, agents, channels)
        mask = None
        if present is not None:  # an agent always sees itself: a row without any key would be NaN
            mask = present.repeat_interleave(steps, dim=0)[:, None, None, :] | torch.eye(
                agents, dtype=torch.bool, device=x.device
            )
        mixed = self.attention(h, mask).reshape(batch, steps, agents, channels).transpose(1, 2)
        return x + mixed


@register("agent_unet", AgentUNetConfig)
class AgentUNet(Network):
    """Permutation-equivariant U-Net over [B, N, T, C].

    condition.global_ [B, D] is shared by all agents; condition.tokens [B, N, D'] is one vector per agent (its
    observation, goal or identity) and condition.token_mask [B, N] says which agents are present.
    Source: Zhu et al. 2024 (MADiff), Sec. 4.1: attention on the skip-connected features before each decoder level.
    """

    reads = frozenset({"global_", "tokens"})
    ranks = (3,)

    def __init__(self, config: AgentUNetConfig, sizes: Sizes):
        super().__init__(config, sizes)
        shared = Sizes(sizes.data_shape[1:], sizes.condition_dim + sizes.token_dim)
        self.unet = UNet(config, shared)
        self.skips = nn.ModuleList(AgentAttention(dim, config.heads) for dim in config.down_dims[1:])
        self.inner = AgentAttention(config.down_dims[-1], config.heads)

    def predict(self, x: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        given = self._given(condition)
        features = self.unet.time(t).repeat_interleave(x.shape[1], dim=0)
        if given is not None:
            features = torch.cat([features, given], dim=-1)
        return self._body(x, self.unet.film(F.mish(features)), condition)

    def precompute(self, times: Tensor, condition: Condition | None) -> StepCache:
        given = self._given(condition)
        shared = self.unet.precompute(times, None if given is None else Condition(given))
        return StepCache(times, condition, shared.time_part, shared.condition_part)

    def step(self, x: Tensor, index: int, cache: StepCache) -> Tensor:
        return self._body(x, cache.modulation(index), cache.condition)

    def check(self, x: Tensor, condition: Condition | None) -> None:
        super().check(x, condition)
        agents = self.sizes.data_shape[0]
        if condition is not None and condition.tokens is not None and condition.tokens.shape[1] != agents:
            raise ConfigError(
                f"{agents} agents need {agents} condition tokens, not {condition.tokens.shape[1]}"
            )

    def _given(self, condition: Condition | None) -> Tensor | None:
        """The condition of each agent: [B * N, D + D']."""
        parts = []
        agents = self.sizes.data_shape[0]
        if condition is not None and condition.global_ is not None:
            parts.append(condition.global_.repeat_interleave(agents, dim=0))
        if condition is not None and condition.tokens is not None:
            parts.append(condition.tokens.flatten(0, 1))
        return torch.cat(parts, dim=-1) if parts else None

    def _body(self, x: Tensor, modulation: Tensor, condition: Condition | None) -> Tensor:
        present = condition.token_mask if condition is not None else None
        parts = modulation.split(self.unet.widths, dim=-1)
        h, skips = self.unet.encode(self.unet.enter(x.flatten(0, 1)), parts)
        h = self._mix(self.inner, h, x, present)
        skips = [self._mix(mixer, skip, x, present) for mixer, skip in zip(self.skips, skips, strict=True)]
        return self.unet.enter(self.unet.head(self.unet.decode(h, skips, parts))).reshape(x.shape)

    def _mix(self, mixer: nn.Module, h: Tensor, x: Tensor, present: Tensor | None) -> Tensor:
        steps_last = self.unet.enter(h).unflatten(0, x.shape[:2])
        return self.unet.enter(mixer(steps_last, present).flatten(0, 1))
