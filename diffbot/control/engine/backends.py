"""Ways to run one denoising step (x, modulation) -> output. The names are those of `backend=`.

A back end is built for one shape of x at batch 1 or B and copies the weights as they are at that moment.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from diffbot.control.engine.step import Step, StepModule, StepNetwork
from diffbot.errors import ConfigError, unknown


def build_eager(network: StepNetwork, x: Tensor, modulation: Tensor) -> Step:
    """PyTorch as it is, on the live weights."""
    return network.modulated


def build_compile(network: StepNetwork, x: Tensor, modulation: Tensor) -> Step:
    """torch.compile with frozen weights, which lets the CPU back end pack them for oneDNN. Needs a C++ compiler."""
    frozen = StepModule(cast(nn.Module, copy.deepcopy(network)).requires_grad_(False).eval())
    compiled = torch.compile(frozen, dynamic=False, fullgraph=True, options={"freezing": True})

    def step(x: Tensor, modulation: Tensor) -> Tensor:
        # Guards and freezing look at the grad mode: it must be the same at every call.
        with torch.inference_mode(False), torch.no_grad():
            return cast(Tensor, compiled(x, modulation))

    return step


def build_cudagraph(network: StepNetwork, x: Tensor, modulation: Tensor) -> Step:
    """One captured CUDA graph on fixed buffers: a step costs one launch."""
    if x.device.type != "cuda":
        raise ConfigError(f"backend 'cudagraph' needs the policy on a CUDA device, it is on '{x.device}'")
    # Buffers are written under whichever grad mode a chunk is computed in, so they must not be inference tensors.
    with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
        still_x, still_modulation = x.clone(), modulation.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                network.modulated(still_x, still_modulation)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = network.modulated(still_x, still_modulation)

    def step(x: Tensor, modulation: Tensor) -> Tensor:
        still_x.copy_(x)
        still_modulation.copy_(modulation)
        graph.replay()
        return output.clone()

    return step


def _openvino(precision: str) -> Callable[[StepNetwork, Tensor, Tensor], Step]:
    def build(network: StepNetwork, x: Tensor, modulation: Tensor) -> Step:
        from diffbot.control.engine.openvino import OpenVinoStep

        return OpenVinoStep(network, x, modulation, precision)

    return build


BACKENDS: dict[str, Callable[[StepNetwork, Tensor, Tensor], Step]] = {
    "eager": build_eager,
    "compile": build_compile,
    "cudagraph": build_cudagraph,
    "openvino": _openvino("fp32"),
    "openvino-bf16": _openvino("bf16"),
    "openvino-int8": _openvino("int8"),
}
EXACT = frozenset({"eager", "compile", "cudagraph", "openvino"})


def choose_backend(name: str, device: torch.device) -> str:
    """The back end for `name`; "auto" is the fastest exact one for this device among the installed ones.

    The choice depends on device and installation alone, never on a measurement, so that two processes choose alike.
    """
    if name == "auto":
        if device.type == "cuda":
            return "cudagraph"
        return "openvino" if device.type == "cpu" and importlib.util.find_spec("openvino") else "eager"
    if name not in BACKENDS:
        raise unknown("backend", name, [*BACKENDS, "auto"])
    return name
