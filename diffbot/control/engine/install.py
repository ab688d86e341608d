"""Puts a back end under the networks of a method, without the method knowing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from diffbot.control.engine.backends import BACKENDS, choose_backend
from diffbot.control.engine.step import Step, can_accelerate

MOST_TIMES = 4096
# Largest difference from the plain network that "auto" accepts, relative to the output's size where that exceeds 1.
EXACTNESS = 1e-4


class Engine:
    """Stands in for one network's `forward(x, t, condition)` at inference.

    The condition's share of the modulation is computed when a new condition arrives (once per chunk), the time's share once
    for each t that a solver uses and then remembered, and the step runs in a back end built on first use for its shape.
    Gradients, local or token conditions and differing t within a batch go to the network itself. When weights have
    changed since the back end copied them, it is built again.

    Set `sealed` after a warm-up: shapes not seen so far then run in the network itself instead of waiting for a build.
    """

    def __init__(self, network: nn.Module, backend: str, automatic: bool = False) -> None:
        self.network = network
        self.backend = backend
        self.automatic = automatic
        self.original: Callable[..., Tensor] = network.forward
        self.sealed = False
        self._parameters = list(network.parameters())
        self._steps: dict[tuple[int, ...], Step] = {}
        self._times: dict[float, Tensor] = {}
        self._version = -1
        self._given: Any = None
        self._part: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        time = self._single_time(x, t, condition)
        if time is None:
            return self.original(x, t, condition)
        part = self._condition_part(t, condition)
        row = self._times.get(time)
        if row is None:
            row = self._time_part(time, t)
        modulation = row if part is None else row + part
        step = self._steps.get((*x.shape, *modulation.shape))
        if step is None:
            if self.sealed:
                return self.original(x, t, condition)
            step = self._build(x, modulation)
            self._steps[(*x.shape, *modulation.shape)] = step
        return step(x, modulation)

    def _build(self, x: Tensor, modulation: Tensor) -> Step:
        """The back end for these shapes; chosen by "auto" it must agree with the network, else PyTorch runs it."""
        network: Any = self.network
        if not self.automatic:
            return BACKENDS[self.backend](network, x, modulation)
        try:
            step = BACKENDS[self.backend](network, x, modulation)
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1]
            warnings.warn(
                f"back end '{self.backend}' cannot run this network ({first}); using eager", stacklevel=2
            )
            return network.modulated  # type: ignore[no-any-return]
        expected = network.modulated(x, modulation)
        error_size = float((step(x, modulation) - expected).abs().max())
        if error_size <= EXACTNESS * max(1.0, float(expected.abs().max())):
            return step
        warnings.warn(f"back end '{self.backend}' is off by {error_size:.1e}; using eager", stacklevel=2)
        return network.modulated  # type: ignore[no-any-return]

    def _single_time(self, x: Tensor, t: Tensor, condition: Any) -> float | None:
        """t as a number where the fast path applies, else None."""
        if torch.is_grad_enabled() or not isinstance(t, Tensor) or x.dtype != torch.float32:
            return None
        if condition is not None and (condition.local is not None or condition.tokens is not None):
            return None
        if t.ndim == 0 or len(t) == 1 or t.stride() == (0,):
            return float(t if t.ndim == 0 else t[0])
        first = float(t[0])
        return first if bool((t == first).all()) else None

    def _condition_part(self, t: Tensor, condition: Any) -> Tensor | None:
        given = None if condition is None else condition.global_
        if given is not None and given is self._given:
            return self._part
        self._refresh()
        self._given = given
        if given is None:
            self._part = None
        else:
            network: Any = self.network
            # No times: their half is kept apart, for all chunks.
            self._part = network.precompute(t.reshape(-1)[:0].float(), condition).condition_part
        return self._part

    def _time_part(self, time: float, t: Tensor) -> Tensor:
        network: Any = self.network
        if len(self._times) >= MOST_TIMES:
            self._times.clear()
        row: Tensor = network.precompute(t.reshape(-1)[:1].float(), None).time_part
        self._times[time] = row
        return row

    def _refresh(self) -> None:
        """Drop everything derived from weights that have changed since."""
        # Inference tensors keep no version: nothing outside inference mode can change them.
        version = sum(0 if p.is_inference() else p._version for p in self._parameters)
        if version != self._version:
            self._version = version
            self._steps.clear()
            self._times.clear()


def networks_of(method: object) -> Iterator[nn.Module]:
    """Every module with the step hooks that a method holds, directly or inside modules, each once."""
    roots = [method] if isinstance(method, nn.Module) else list(vars(method).values())
    seen: set[int] = set()
    for root in roots:
        if not isinstance(root, nn.Module):
            continue
        for module in root.modules():
            if can_accelerate(module) and id(module) not in seen:
                seen.add(id(module))
                yield module


def accelerate(method: object, backend: str, device: torch.device) -> list[Engine]:
    """Install engines under all networks of `method` that allow it; returns them (none is no error).

    Installing again replaces the back end. "eager" with no hooks is PyTorch as it is. Raises ConfigError for an unknown
    back end.
    """
    name = choose_backend(backend, device)
    engines = []
    for network in networks_of(method):
        present = network.__dict__.get("forward")
        if isinstance(present, Engine):
            if present.backend == name:
                engines.append(present)
                continue
            del network.__dict__["forward"]
        engine = Engine(network, name, automatic=backend == "auto")
        network.__dict__["forward"] = engine
        engines.append(engine)
    return engines
