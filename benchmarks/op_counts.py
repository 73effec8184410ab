"""Arithmetic and memory traffic of an ONNX graph, operator by operator.

Counted with ONNX's shape inference at one frame size, so the figures hold for every runtime: multiply-adds of
convolutions and matrix products, and bytes as if each operator read all its inputs from memory and wrote all
its outputs to it. The second byte count is the traffic of a perfect runtime, which fuses everything between
two convolutions into them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mst_deploy.errors import BundleError
from mst_deploy.model.bundle import Manifest
from mst_deploy.onnx_passes.passes import read_graph

Shape = tuple[int, ...]
FREE = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Shape", "Constant")
"""Operators that only reinterpret the same bytes."""
SIZES = ("Add", "Sub", "Mul", "Div", "Squeeze", "Reshape")
"""Operators that graphs compute sizes with."""


@dataclass(frozen=True)
class Cost:
    """Cost of one operator."""

    name: str
    kind: str
    multiply_adds: int
    read: int
    """Bytes read."""
    written: int
    """Bytes written."""


@dataclass(frozen=True)
class Work:
    """Cost of all operators of a graph at one size."""

    costs: tuple[Cost, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all operators."""
        return sum(cost.multiply_adds for cost in self.costs)

    @property
    def bytes(self) -> int:
        """Bytes if every operator goes through memory."""
        return sum(cost.read + cost.written for cost in self.costs)

    @property
    def least_bytes(self) -> int:
        """Bytes if only operators that multiply do: each convolution reads its input and writes its output
        once."""
        return sum(cost.read + cost.written for cost in self.costs if cost.multiply_adds)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return (multiply-adds, bytes) by operator type, the most bytes first."""
        sums: dict[str, Counter[str]] = {}
        for cost in self.costs:
            sums.setdefault(cost.kind, Counter()).update(
                adds=cost.multiply_adds, bytes=cost.read + cost.written
            )
        order = sorted(sums, key=lambda kind: -sums[kind]["bytes"])
        return {kind: (sums[kind]["adds"], sums[kind]["bytes"]) for kind in order}


def input_shapes(manifest: Manifest, pixels: Shape) -> dict[str, Shape]:
    """Return the input shapes of a generator by name, for frames of the shape ``pixels`` (N, H, W, 3)."""
    shapes = {"frames": pixels, "film": (pixels[0], manifest.film_size)}
    if manifest.canvas_bands:
        shapes["canvas"] = (*pixels[:3], 1)
    return shapes


def count(graph: Path | onnx.ModelProto, inputs: dict[str, Shape]) -> Work:
    """Count the work of a graph for inputs of these shapes. Raises BundleError for a graph whose shapes
    are unknown."""
    model = onnx.ModelProto()
    model.CopyFrom(read_graph(graph) if isinstance(graph, Path) else graph)
    inferred = onnx.shape_inference.infer_shapes(_fixed(model, inputs), strict_mode=True, data_prop=True)
    known = {
        value.name: _shape_and_size(value)
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    }
    for tensor in inferred.graph.initializer:
        known[tensor.name] = (tuple(tensor.dims), _item_size(tensor.data_type))
    return Work(tuple(_cost(node, known) for node in inferred.graph.node))


def _cost(node: NodeProto, known: dict[str, tuple[Shape | None, int]]) -> Cost:
    if node.op_type in FREE:
        return Cost(node.name, node.op_type, 0, 0, 0)
    sides = []
    for names in (node.input, node.output):
        total = 0
        for name in filter(None, names):
            shape, size = known.get(name, (None, 0))
            if shape is None:
                raise BundleError(
                    f"the shape of {name!r}, at operator {node.name or node.op_type}, does not follow from "
                    "those of the inputs; the work of this graph cannot be counted"
                )
            total += math.prod(shape) * size
        sides.append(total)
    adds = COUNTED[node.op_type](node, *_shapes(node, known)) if node.op_type in COUNTED else 0
    return Cost(node.name, node.op_type, adds, *sides)


def _shapes(node: NodeProto, known: dict[str, tuple[Shape | None, int]]) -> tuple[list[Shape], Shape]:
    return [known[name][0] or () for name in node.input if name], known[node.output[0]][0] or ()


def _convolution(node: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count a convolution: each output value is a sum over weights (O, C / groups, k, k)."""
    return math.prod(output) * math.prod(inputs[1][1:])


def _transposed(node: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count a transposed convolution: each input value is spread by weights (C, O / groups, k, k)."""
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _product(node: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count a matrix product: each output value is a sum over the last axis of the first input."""
    return math.prod(output) * inputs[0][-1]


def _general_product(node: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(output) * inputs[0][0 if transposed else 1]


COUNTED: dict[str, Callable[[NodeProto, Sequence[Shape], Shape], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "Gemm": _general_product,
}


def _fixed(model: onnx.ModelProto, inputs: dict[str, Shape]) -> onnx.ModelProto:
    """Return the model with fixed input shapes; shapes stored in it before are dropped."""
    del model.graph.value_info[:]
    for value in model.graph.input:
        if value.name not in inputs:
            raise BundleError(f"the graph has an input {value.name!r} whose shape was not given")
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, inputs[value.name]))
    for value in model.graph.output:
        value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None))
    for node in model.graph.node:  # shape inference does not follow sizes through a cropping Slice
        if node.op_type == "Shape" and node.input[0] in inputs:
            _replace_shape(model, node, inputs[node.input[0]])
    kept = [node for node in model.graph.node if node.op_type != "Shape" or node.input[0] not in inputs]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    _fold_sizes(model)
    return model


def _fold_sizes(model: onnx.ModelProto) -> None:
    """Compute the sizes that follow from the input shapes, as shape inference does not divide."""
    sizes: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64
    }
    for node in model.graph.node:
        if node.op_type in SIZES and all(name in sizes for name in node.input):
            read = {name: sizes[name] for name in node.input}
            value = np.asarray(next(iter(ReferenceEvaluator(node).run(None, read))))
            sizes[node.output[0]] = value
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    kept = [node for node in model.graph.node if node.output[0] not in sizes]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _replace_shape(model: onnx.ModelProto, node: NodeProto, shape: Shape) -> None:
    limits: dict[str, Any] = {attribute.name: attribute.i for attribute in node.attribute}
    values = np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))


def _shape_and_size(value: onnx.ValueInfoProto) -> tuple[Shape | None, int]:
    """Return the shape (None if unknown) and the bytes per item."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    known = kind.HasField("shape") and min(dims, default=0) >= 0
    return (tuple(dims) if known else None), _item_size(kind.elem_type)


def _item_size(kind: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize)
