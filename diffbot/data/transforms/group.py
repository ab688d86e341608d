"""All transforms of a policy: composed once, used by training, evaluation and the robot alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.data.batch import Batch
from diffbot.data.contract import Action, Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.data.transforms.base import Transform, build
from diffbot.data.windows import Windows
from diffbot.errors import DataError

FIT_WINDOWS = 65536


class TransformGroup:
    """Key -> transforms, applied in order and inverted in reverse order. "action" is a key like the observations.

    A key that is not listed is an error: nothing passes through unseen (use "identity").
    """

    def __init__(self, transforms: Mapping[str, Sequence[Transform]]) -> None:
        self.transforms = {key: list(chain) for key, chain in transforms.items()}

    @classmethod
    def default(
        cls, contract: Contract, normalization: str = "min_max", image: Sequence[Mapping[str, Any]] = ()
    ) -> TransformGroup:
        """`normalization` for action and vectors; images become float32 channels-first in [-1, 1], then `image` specs."""
        chains: dict[str, list[Transform]] = {}
        for key, field in contract.observations.items():
            specs = [{"name": "image_scale"}, *image] if field.kind == "image" else [{"name": normalization}]
            chains[key] = [build(spec) for spec in specs]
        chains["action"] = [build({"name": normalization})]
        return cls(chains)

    # -- applying -------------------------------------------------------------------------------------------------

    def forward(
        self, values: Mapping[str, Tensor], *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Raw [..., *shape] to transformed, for every key of `values`. A generator switches augmentation on (training)."""
        out = {}
        for key, x in values.items():
            for transform in self._chain(key):
                x = transform.forward(x, self._context(transform, values), generator)
            out[key] = x
        return out

    def inverse(
        self, values: Mapping[str, Tensor], *, context: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Transformed to raw. `context` holds raw observations, needed where actions are relative to one."""
        out = {}
        for key, y in values.items():
            for transform in reversed(self._chain(key)):
                y = transform.inverse(y, self._context(transform, context or {}))
            out[key] = y
        return out

    def forward_batch(self, batch: Batch, *, generator: torch.Generator | None = None) -> Batch:
        """A batch with transformed observations, next observations, goals and actions."""
        raw = {**batch.observations, "action": batch.actions}
        new = self.forward(raw, generator=generator)
        actions = new.pop("action")
        more = {
            name: self.forward(getattr(batch, name), generator=generator)
            for name in ("next_observations", "goals")
            if getattr(batch, name) is not None
        }
        return batch.replace(observations=new, actions=actions, **more)

    # -- statistics -----------------------------------------------------------------------------------------------

    def fit(
        self,
        source: EpisodeStore | Windows | Mapping[str, np.ndarray | Tensor],
        episodes: Sequence[int] | np.ndarray | None = None,
    ) -> TransformGroup:
        """Take the statistics of a store (or only of these episodes), of windows, or of arrays [N, *shape] by key.

        Relative actions depend on the window, so they need windows, of which at most 65,536 evenly spread are used.
        Returns self. Raises DataError for keys that are missing or values that are not finite.
        """
        if episodes is not None and not isinstance(source, EpisodeStore):
            raise DataError(
                "fit(episodes=) goes with a store; choose the episodes of windows when making them"
            )
        for key, chain in self.transforms.items():
            if not any(t.statistic_names for t in chain):
                continue
            values = self._values(source, key, episodes)
            lead = 2 if isinstance(source, Windows) else 1
            x = values[key]
            for transform in chain:
                if transform.needs and lead == 1:
                    raise DataError(f"'{key}' is relative to {', '.join(transform.needs)}: fit on windows")
                transform.fit(x.flatten(0, lead - 1), key)
                x = transform.forward(x, self._context(transform, values))
        return self

    def _values(
        self, source: Any, key: str, episodes: Sequence[int] | np.ndarray | None
    ) -> dict[str, Tensor]:
        """Raw data of a key and of what its transforms need."""
        wanted = tuple(dict.fromkeys((key, *(n for t in self._chain(key) for n in t.needs))))
        if isinstance(source, EpisodeStore):
            values: Mapping[str, Any] = _load(source, wanted, episodes)
        elif isinstance(source, Windows):
            batch = source.gather(np.unique(np.linspace(0, len(source) - 1, FIT_WINDOWS).astype(np.int64)))
            values = {**batch.observations, "action": batch.actions}
        else:
            values = source
        for name in wanted:
            if name not in values:
                raise DataError(
                    f"no data for '{name}' to take statistics from; there is: {', '.join(values)}"
                )
        return {name: torch.as_tensor(values[name]) for name in wanted}

    def statistics(self) -> dict[str, Tensor]:
        """All statistics under "key/position/name", for safetensors. DataError before `fit`."""
        return {
            f"{key}/{i}/{name}": value.detach().cpu().contiguous()
            for key, chain in self.transforms.items()
            for i, transform in enumerate(chain)
            for name, value in transform.statistics().items()
        }

    def spec(self) -> dict[str, Any]:
        """Plain dictionary, without statistics."""
        return {key: [t.spec() for t in chain] for key, chain in self.transforms.items()}

    @classmethod
    def from_spec(
        cls, spec: Mapping[str, Any], statistics: Mapping[str, Tensor] | None = None
    ) -> TransformGroup:
        """Inverse of `spec` and `statistics`. With statistics given, each must be there, and none too many."""
        group = cls({key: [build(s) for s in chain] for key, chain in spec.items()})
        if statistics is None:
            return group
        left = dict(statistics)
        for key, chain in group.transforms.items():
            for i, transform in enumerate(chain):
                names = {n: f"{key}/{i}/{n}" for n in transform.statistic_names}
                missing = [full for full in names.values() if full not in left]
                if missing:
                    raise DataError(
                        f"statistics lack {', '.join(missing)}; they have: {', '.join(statistics) or '(none)'}"
                    )
                if names:
                    transform.load_statistics({n: left.pop(full) for n, full in names.items()})
        if left:
            raise DataError(f"statistics that belong to no transform: {', '.join(left)}")
        return group

    # -- shapes ---------------------------------------------------------------------------------------------------

    def check(self, contract: Contract) -> None:
        """Raise DataError unless the statistics exist and fit every key of the contract."""
        self.statistics()
        self.transformed_contract(contract)

    def transformed_contract(self, contract: Contract) -> Contract:
        """The contract of transformed values: new shapes, float32, no units, ranges and names."""
        observations = {
            key: Field(self._shape(key, f), kind=f.kind) for key, f in contract.observations.items()
        }
        action = contract.action
        changed = Action(self._shape("action", action), meaning=action.meaning, space=action.space)
        return replace(contract, observations=observations, action=changed)

    def _shape(self, key: str, field: Field) -> tuple[int, ...]:
        shape = field.shape
        for transform in self._chain(key):
            shape = transform.output_shape(shape)
        return shape

    def _chain(self, key: str) -> list[Transform]:
        if key not in self.transforms:
            raise DataError(f"no transform for '{key}'; there are some for: {', '.join(self.transforms)}")
        return self.transforms[key]

    @staticmethod
    def _context(transform: Transform, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        missing = [n for n in transform.needs if n not in values]
        if missing:
            raise DataError(f"transform '{transform.name}' needs the raw values of {', '.join(missing)}")
        return {n: values[n] for n in transform.needs}


def _load(
    store: EpisodeStore, keys: tuple[str, ...], episodes: Sequence[int] | np.ndarray | None
) -> dict[str, np.ndarray]:
    if episodes is None:
        return store.load(keys)
    chosen = [store.episode(int(e), keys) for e in episodes]
    return {k: np.concatenate([episode[k] for episode in chosen]) for k in keys}
