"""Fixed normalization statistics instead of computed ones: gain in speed and loss of quality.

Mean and variance of every feature map are taken from one frame and used for all others. Normalization and
FiLM then become one multiplication and one addition per channel, which are folded into the preceding
convolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, numpy_helper

from mst_deploy.backends import FilmBatch, Images
from mst_deploy.backends.parity import graph_inputs


def fix_statistics(model: onnx.ModelProto, frames: Images, films: FilmBatch) -> int:
    """Replace the normalizations of a float32 graph, in place; return how many were replaced.

    Statistics are those of one frame (1, H, W, 3) uint8 with FiLM parameters (1, P) float32.
    """
    chains = _chains(model)
    tensors = [
        name for norm, scale, shift in chains for name in (norm.input[0], scale.input[1], shift.input[1])
    ]
    names = [value.name for value in model.graph.input]
    values = _values(model, tensors, graph_inputs(names, frames, films))
    for norm, scale, shift in chains:
        epsilon = next(attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
        maps = values[norm.input[0]].astype(np.float64)  # (1, C, H, W)
        mean, variance = maps.mean((2, 3), keepdims=True), maps.var((2, 3), keepdims=True)
        factor = values[scale.input[1]] / np.sqrt(variance + epsilon)
        added = values[shift.input[1]] - mean * factor
        scale.input[:] = [norm.input[0], _constant(model, f"{norm.output[0]}.factor", factor)]
        shift.input[1] = _constant(model, f"{norm.output[0]}.added", added)
        model.graph.node.remove(norm)
    return len(chains)


def _chains(model: onnx.ModelProto) -> list[tuple[NodeProto, NodeProto, NodeProto]]:
    """Return every normalization with the multiplication and the addition of its FiLM parameters."""
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    chains = []
    for norm in [node for node in model.graph.node if node.op_type == "InstanceNormalization"]:
        (scale,) = users[norm.output[0]]
        (shift,) = users[scale.output[0]]
        chains.append((norm, scale, shift))
    return chains


def _values(model: onnx.ModelProto, names: list[str], inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the named tensors of the graph for these inputs."""
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, inputs), strict=True))


def _constant(model: onnx.ModelProto, name: str, value: Any) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return name
