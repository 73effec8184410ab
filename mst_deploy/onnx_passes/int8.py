"""Convolutions on 8-bit integers, as QuantizeLinear and DequantizeLinear nodes around them (QDQ).

Weights are int8, symmetric, with one scale for each output channel. What a convolution reads is uint8 with a
scale and a zero point for the whole map; what it gives stays float32, so sums lose nothing and normalizations
see exact statistics. Runtimes that know the pattern multiply integers; others compute the same in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

LEVELS = 255  # of uint8
LARGEST = 127  # of int8, both signs
PIXEL_STEP = 1 / LEVELS
TRAINED, FIXED = "generator.", "generator.bands."
"""What the names of trained weights begin with, and those of the fixed filters of the canvas."""


@dataclass(frozen=True)
class Affine:
    """real = scale (integer - zero_point), for integers 0..255."""

    scale: float
    zero_point: int

    @classmethod
    def over(cls, lowest: float, highest: float) -> Affine:
        """Return the finest one for values of lowest..highest; 0 is always one of its values."""
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)
        scale = (highest - lowest) / LEVELS or 1.0
        return cls(scale, round(-lowest / scale))


PIXELS = Affine(PIXEL_STEP, 0)
"""Of pixels in 0..1: every value of a pixel is one of the integers, so nothing is lost."""


def convolutions(model: onnx.ModelProto) -> dict[str, NodeProto]:
    """Return the convolutions with trained weights by the names of their layers, in order."""
    trained = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.name.startswith(TRAINED) and not tensor.name.startswith(FIXED)
    }
    return {
        layer_name(node.input[1]): node
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in trained
    }


def layer_name(weight: str) -> str:
    """Shorten ``generator.blocks.0.first.conv.weight`` to blocks.0.first."""
    return weight.removeprefix(TRAINED).removesuffix(".weight").removesuffix(".conv")


def weight_scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scales of symmetric int8 weights (O, C, k, k) -> (O,): the largest magnitude is 127."""
    largest = np.abs(weight).max(axis=(1, 2, 3))
    return np.asarray(np.where(largest > 0, largest, 1.0) / LARGEST, np.float32)


def quantized_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights of the same shape (O, C, k, k), and their scales (O,)."""
    scales = weight_scales(weight)
    return np.round(weight / scales[:, None, None, None]).astype(np.int8), scales


def quantize(model: onnx.ModelProto, inputs: Mapping[str, Affine]) -> None:
    """Quantize what the named convolutions of a float32 graph read, and their weights.

    Raises KeyError for a layer that the graph does not have.
    """
    known = convolutions(model)
    chosen = {known[layer].output[0]: (layer, affine) for layer, affine in inputs.items()}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] in chosen:
            layer, affine = chosen[node.output[0]]
            nodes += _around(model, node, weights[node.input[1]], layer, affine)
        nodes.append(node)
    _set_nodes(model, nodes)


def _around(
    model: onnx.ModelProto, conv: NodeProto, weight: onnx.TensorProto, layer: str, affine: Affine
) -> list[NodeProto]:
    """Return the nodes before a convolution, which is connected to them."""
    integers, scales = quantized_weight(numpy_helper.to_array(weight))
    tensors: dict[str, NDArray[Any]] = {
        f"{layer}.input.scale": np.array(affine.scale, np.float32),
        f"{layer}.input.zero_point": np.array(affine.zero_point, np.uint8),
        f"{layer}.weight.int8": integers,
        f"{layer}.weight.scale": scales,
        f"{layer}.weight.zero_point": np.zeros(len(scales), np.int8),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    scale, zero_point, *weight_names = tensors
    nodes = [
        helper.make_node("QuantizeLinear", [conv.input[0], scale, zero_point], [f"{layer}.input.uint8"]),
        helper.make_node("DequantizeLinear", [f"{layer}.input.uint8", scale, zero_point], [f"{layer}.input"]),
        helper.make_node("DequantizeLinear", weight_names, [f"{layer}.weight"], axis=0),
    ]
    for node in nodes:
        node.name = f"{node.output[0]}.{node.op_type}"
    conv.input[0], conv.input[1] = f"{layer}.input", f"{layer}.weight"
    return nodes


def pixels_into_convolution(model: onnx.ModelProto) -> int:
    """Let the first convolution read pixels in 0..1 instead of -1..1; return how many were changed.

    conv(2 x - 1) is conv with doubled weights, less a constant for each channel, which the instance
    normalization removes. Integers then represent pixels exactly; between -1 and 1 they would not.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    changed = 0
    for norm in [node for node in model.graph.node if node.op_type == "InstanceNormalization"]:
        chain = _back(makers, norm.input[0])
        if [node.op_type for node in chain[:4]] != ["Conv", "Pad", "Sub", "Mul"] or len(chain[0].input) > 2:
            continue
        conv, pad, minus, times = chain[:4]
        if _value(constants, minus.input[1]) != 1 or _value(constants, times.input[1]) != 2:
            continue
        weight = constants[conv.input[1]]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(2), weight.name))
        pad.input[0] = times.input[0]
        _set_nodes(model, [node for node in model.graph.node if node not in (minus, times)])
        changed += 1
    return changed


def reads_pixels(model: onnx.ModelProto, layer: str) -> bool:
    """Return whether a convolution reads pixels in 0..1: padded quotients of an input and 255."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    chain = _back(makers, convolutions(model)[layer].input[0])
    if chain and chain[0].op_type == "Pad":
        chain = chain[1:]
    return bool(chain) and chain[0].op_type == "Div" and _value(constants, chain[0].input[1]) == LEVELS


def to_signed(model: onnx.ModelProto) -> int:
    """Make uint8 inputs of convolutions int8 with the zero point 0, the only form that TensorRT takes; return
    their number.

    The range stays; where it has one sign only, half of the integers are unused.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    changed = 0
    for node in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        scale, zero_point = (tensors[name] for name in node.input[1:3])
        step, zero = float(numpy_helper.to_array(scale)), int(numpy_helper.to_array(zero_point))
        furthest = step * max(zero, LEVELS - zero)
        scale.CopyFrom(numpy_helper.from_array(np.array(furthest / LARGEST, np.float32), scale.name))
        zero_point.CopyFrom(numpy_helper.from_array(np.array(0, np.int8), zero_point.name))
        changed += 1
    del model.graph.value_info[:]
    return changed


def _back(makers: Mapping[str, NodeProto], name: str) -> list[NodeProto]:
    """Return the nodes that lead to a value along first inputs, the last first, without casts."""
    chain = []
    while name in makers:
        node = makers[name]
        if node.op_type != "Cast":
            chain.append(node)
        name = node.input[0]
    return chain


def _value(constants: Mapping[str, onnx.TensorProto], name: str) -> Any:
    """Return a constant of one value; None for anything else."""
    found = numpy_helper.to_array(constants[name]) if name in constants else np.empty(0)
    return found.reshape(-1)[0] if found.size == 1 else None


def _set_nodes(model: onnx.ModelProto, nodes: list[NodeProto]) -> None:
    """Give the graph these nodes; drop weights that none of them reads, and stale types."""
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    used = {name for node in copies for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
    del model.graph.value_info[:]
