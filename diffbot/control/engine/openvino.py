"""The step in OpenVINO's CPU runtime: weights packed once, buffers fixed, no allocation per step but the output."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffbot.control.engine.step import StepNetwork, exportable
from diffbot.errors import require

# Matrix products below this many weights stay in floating point: they cost no traffic and hold the first and last layer.
SMALLEST_INT8 = 65536
# A network with fewer weights than this runs faster on one thread than with the hand-over between two.
ONE_THREAD_BELOW = 2_000_000


class OpenVinoStep:
    """`network.modulated` for fixed shapes. precision: "fp32" (equal within 1e-4), "bf16", or "int8" (weights per output
    channel, activations quantised on the fly by the runtime).

    Raises MissingExtraError without OpenVINO.
    """

    def __init__(self, network: StepNetwork, x: Tensor, modulation: Tensor, precision: str) -> None:
        ov = require("openvino", "openvino", "the OpenVINO back end")
        # Matrix products can be stored in int8; oneDNN's convolutions are faster for the rest.
        module = exportable(network, "linear" if precision == "int8" else "conv1d")
        size = sum(p.numel() for p in module.parameters())
        # The tracer needs normal tensors; these may have been made under inference_mode.
        example = tuple(torch.from_numpy(e.detach().numpy().copy()) for e in (x, modulation))
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # the converter's own use of the tracer
            model = ov.convert_model(module, example_input=example, input=[list(e.shape) for e in example])
        write_out_mish(ov, model)
        if precision == "int8":
            store_weights_in_int8(ov, model)
        threads = 1 if size < ONE_THREAD_BELOW else torch.get_num_threads()
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        self._request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
        self._x = np.zeros(tuple(x.shape), np.float32)
        self._modulation = np.zeros(tuple(modulation.shape), np.float32)
        self._request.set_input_tensor(0, ov.Tensor(self._x, shared_memory=True))
        self._request.set_input_tensor(1, ov.Tensor(self._modulation, shared_memory=True))
        self._request.infer()
        self._output = self._request.get_output_tensor(0).data

    def __call__(self, x: Tensor, modulation: Tensor) -> Tensor:
        self._x[...] = x.numpy()
        self._modulation[...] = modulation.numpy()
        self._request.infer()
        return torch.from_numpy(self._output.copy())


def store_weights_in_int8(ov: Any, model: Any) -> int:
    """Rewrite each large constant of a matrix product as int8 with one scale per output channel; returns how many.

    The runtime recognises convert * scale in front of a product and reads the eight-bit weights directly.
    """
    op = require("openvino.opset13", "openvino", "int8 weights")
    count = 0
    for node in model.get_ops():
        if node.get_type_name() != "MatMul":
            continue
        weight = node.input_value(1).get_node()
        if weight.get_type_name() != "Constant" or weight.data.size < SMALLEST_INT8:
            continue
        inputs = 1 if node.get_attributes()["transpose_b"] else 0
        largest = np.abs(weight.data).max(axis=inputs, keepdims=True)
        scale = np.where(largest > 0, largest, 1.0).astype(np.float32) / np.float32(127.0)
        stored = np.clip(np.round(weight.data / scale), -127, 127).astype(np.int8)
        restored = op.multiply(op.convert(op.constant(stored, dtype=np.int8), "f32"), op.constant(scale))
        node.input(1).replace_source_output(restored.output(0))
        count += 1
    model.validate_nodes_and_infer_types()
    return count


def write_out_mish(ov: Any, model: Any) -> int:
    """Rewrite x tanh(softplus(x)) as x n / (n + 2), n = e^x (e^x + 2), x in the exponent capped; returns how many.

    The runtime fuses these elementary operations with their neighbours; its own Mish runs alone, and is refused inside a
    fusion on some shapes.
    """
    op = require("openvino.opset13", "openvino")
    count = 0
    for node in model.get_ops():
        if node.get_type_name() != "Mish":
            continue
        x = node.input_value(0)
        # Beyond 20 the quotient is 1 in float32, and e^40 is still finite.
        e = op.exp(op.minimum(x, op.constant(np.float32(20.0))))
        n = op.multiply(e, op.add(e, op.constant(np.float32(2.0))))
        quotient = op.divide(n, op.add(n, op.constant(np.float32(2.0))))
        node.output(0).replace(op.multiply(x, quotient).output(0))
        count += 1
    model.validate_nodes_and_infer_types()
    return count
