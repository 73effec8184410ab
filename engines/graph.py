"""The generator's ONNX graph as every supported TensorRT takes it, and in float32 for comparison.

Rewrites are exact: ONNX Runtime gives the same bytes before and after (tests/engines/test_graph.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from mst_deploy.errors import BundleError

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def for_tensorrt(path: Path) -> bytes:
    """The graph with bytes converted first and last. Raises BundleError.

    TensorRT takes uint8 at the network's doors only if a cast follows (or precedes) at once; the exported
    graph moves channels before it casts, because bytes are cheaper to move on a CPU.
    """
    model = read(path)
    cast_at_the_doors(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def read(path: Path) -> onnx.ModelProto:
    """A graph from a file. Raises BundleError."""
    try:
        return onnx.load(path)
    except Exception as error:  # onnx and protobuf share no base class
        raise BundleError(f"cannot read {path} as ONNX: {error}") from error


def cast_at_the_doors(model: onnx.ModelProto) -> int:
    """Swap Transpose-Cast after the input and Cast-Transpose before the output, in place -> how many."""
    nodes = list(model.graph.node)
    doors = {value.name for value in (*model.graph.input, *model.graph.output)}
    made_by = {name: node for node in nodes for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    swapped = 0
    for node in nodes:
        if node.op_type != "Transpose":
            continue
        following = users.get(node.output[0], [])
        if node.input[0] in doors and len(following) == 1 and following[0].op_type == "Cast":
            _swap(model, node, following[0])
            swapped += 1
        before = made_by.get(node.input[0])
        if node.output[0] in doors and before is not None and before.op_type == "Cast":
            _swap(model, before, node)
            swapped += 1
    return swapped


def as_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in float32 all that was float16; weights keep their rounded values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == HALF:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in copy.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
                attribute.i = FLOAT
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == HALF:
                values = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    for value in (*copy.graph.value_info, *copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == HALF:
            value.type.tensor_type.elem_type = FLOAT
    onnx.checker.check_model(copy, full_check=True)
    return copy


def _swap(model: onnx.ModelProto, first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    """Two unary nodes in a row exchange what they do; the value between them loses its stale type."""
    stale = [value for value in model.graph.value_info if value.name == first.output[0]]
    for value in stale:
        model.graph.value_info.remove(value)
    kept = onnx.NodeProto()
    kept.CopyFrom(first)
    for node, does in ((first, second), (second, kept)):
        attributes = list(does.attribute)
        node.op_type, node.name = does.op_type, does.name
        del node.attribute[:]
        node.attribute.extend(attributes)
