"""Passes over ONNX graphs: equivalent operators that a runtime requires, or runs faster.

Each pass changes an ONNX model in place and returns how often it applied. None needs retraining.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mst_deploy.errors import BundleError

HALVES, FLOAT = (TensorProto.FLOAT16, TensorProto.BFLOAT16), TensorProto.FLOAT
SINCE_18 = {
    "Resize": ("antialias", "keep_aspect_ratio_policy", "axes"),
    "Cast": ("saturate", "round_mode"),
    "AveragePool": ("dilations",),
    "Pad": (),
}
"""Attributes added to operators after opset 17; all have their default in our graphs."""
FOLDED = ("Cast", "Expand", "Unsqueeze", "Squeeze", "Concat")
MOST_FOLDED = 4096  # largest number of values of a folded constant


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph from a file. Raises BundleError."""
    try:
        return onnx.load(path)
    except Exception as error:  # onnx and protobuf share no base class
        raise BundleError(f"cannot read {path} as ONNX: {error}") from error


def cast_at_io(model: onnx.ModelProto) -> int:
    """Cast right after the input and right before the output, transpose in between; return the number of
    swaps.

    The exported graph has it the other way round, because uint8 is cheaper to transpose on a CPU. TensorRT
    accepts uint8 as input or output only next to a cast.
    """
    io = {value.name for value in (*model.graph.input, *model.graph.output)}
    swapped = 0
    for first, second in _followed(model):
        kinds = (first.op_type, second.op_type)
        opens = first.input[0] in io and kinds == ("Transpose", "Cast")
        closes = second.output[0] in io and kinds == ("Cast", "Transpose")
        if opens or closes:
            _swap(model, first, second)
            swapped += 1
    return swapped


def fold_small_constants(model: onnx.ModelProto) -> int:
    """Fold nodes whose inputs are small constants, and drop zero biases of convolutions; return the folded
    nodes.

    The exporter writes the zero bias of a float16 convolution as a cast and an expansion of a scalar.
    """
    folded = 0
    constants = _constants(model)
    for node in list(model.graph.node):
        names = [name for name in node.input if name]
        if node.op_type in FOLDED and names and all(name in constants for name in names):
            result: Any = ReferenceEvaluator(node).run(None, {name: constants[name] for name in names})
            value = np.asarray(result[0])
            if value.size <= MOST_FOLDED:
                constants[node.output[0]] = value
                model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
                model.graph.node.remove(node)
                folded += 1
    for node in model.graph.node:
        if (
            node.op_type == "Conv"
            and len(node.input) == 3
            and not constants.get(node.input[2], np.ones(1)).any()
        ):
            del node.input[2]
    _drop_unused_initializers(model)
    return folded


def upsample_into_conv(model: onnx.ModelProto) -> int:
    """Replace nearest-neighbor doubling, reflected border and 3x3 convolution by 2x2 convolutions at low
    resolution.

    Of the nine taps over a doubled map, those that read the same low-resolution value are summed: each of the
    four phases of the output is a 2x2 convolution, 4/9 of the arithmetic, and no doubled map is stored. A
    border reflected around the doubled map's first row is the low-resolution map's first row again. All
    phases are one convolution with four times the outputs; each phase's window starts at its own corner, and
    DepthToSpace interleaves them. Returns how many were replaced.
    """
    fold_small_constants(model)
    constants = _constants(model)
    replaced = 0
    while (found := _upsampled_conv(model, constants)) is not None:
        _replace(model, list(found), _phase_nodes(model, *found, constants))
        replaced += 1
    _drop_unused_initializers(model)
    return replaced


def _upsampled_conv(
    model: onnx.ModelProto, constants: dict[str, NDArray[Any]]
) -> tuple[NodeProto, NodeProto, NodeProto] | None:
    """Return the next Resize, Pad and Conv that can be replaced; None without one."""
    for resize, pad in _followed(model):
        conv = next((node for node in model.graph.node if pad.output[0] in node.input[:1]), None)
        if conv is not None and _is_upsampled_conv(model, resize, pad, conv, constants):
            return resize, pad, conv
    return None


def _phase_nodes(
    model: onnx.ModelProto,
    resize: NodeProto,
    pad: NodeProto,
    conv: NodeProto,
    constants: dict[str, NDArray[Any]],
) -> list[NodeProto]:
    """Return nodes that compute the same as the three at low resolution."""
    weight = constants[conv.input[1]]
    outputs = weight.shape[0]
    name = conv.name or conv.output[0]
    tensors = [numpy_helper.from_array(phases(weight), f"{conv.input[1]}.phases")]
    if len(conv.input) > 2:
        bias = np.tile(constants[conv.input[2]], 4)
        tensors.append(numpy_helper.from_array(bias, f"{name}.bias.phases"))
    model.graph.initializer.extend(tensors)
    nodes = [
        _node(
            "Pad",
            [resize.input[0], _ints(model, f"{name}.border", [0, 0, 1, 1, 0, 0, 1, 1])],
            f"{name}.padded",
            mode="edge",
        ),
        _node(
            "Conv",
            [f"{name}.padded", *(t.name for t in tensors)],
            f"{name}.all_phases",
            kernel_shape=[2, 2],
            strides=[1, 1],
            pads=[0, 0, 0, 0],
            dilations=[1, 1],
            group=1,
        ),
    ]
    windows = []
    for row in (0, 1):
        for column in (0, 1):
            own = 2 * row + column
            # The last row and column of the (h+1) x (w+1) map belong to odd phases only.
            starts = _ints(model, f"{name}.starts{own}", [own * outputs, row, column])
            ends = _ints(
                model,
                f"{name}.ends{own}",
                [(own + 1) * outputs, row - 1 or 2**31 - 1, column - 1 or 2**31 - 1],
            )
            axes = _ints(model, f"{name}.axes", [1, 2, 3])
            windows.append(f"{name}.phase{own}")
            nodes.append(_node("Slice", [f"{name}.all_phases", starts, ends, axes], windows[-1]))
    nodes.append(_node("Concat", windows, f"{name}.phases", axis=1))
    nodes.append(_node("DepthToSpace", [f"{name}.phases"], conv.output[0], blocksize=2, mode="DCR"))
    return nodes


def phases(weight: NDArray[Any]) -> NDArray[Any]:
    """Return the weights of the phases: (O, C, 3, 3) -> (4 O, C, 2, 2), phase by phase (row, column).

    Even rows of the output read low-resolution rows i-1, i with the taps (0), (1 + 2); odd ones i, i+1 with
    (0 + 1), (2). Sums are computed in float64 and rounded once.
    """
    first, second, third = np.moveaxis(weight.astype(np.float64), 2, 0)  # rows of taps, (O, C, 3) each
    found = []
    for upper, lower in ((first, second + third), (first + second, third)):
        half = np.stack([upper, lower], axis=2)  # (O, C, 2, 3)
        left, middle, right = np.moveaxis(half, 3, 0)
        found += [np.stack([left, middle + right], axis=3), np.stack([left + middle, right], axis=3)]
    return np.concatenate(found).astype(weight.dtype)


def to_opset17(model: onnx.ModelProto) -> None:
    """Lower the opset to 17 for parsers that support no later one (TensorRT 8.6).

    Later versions of the operators used here only added attributes, or turned attributes into inputs.
    """
    constants = _constants(model)
    for node in model.graph.node:
        late = SINCE_18.get(node.op_type, ())
        kept = [attribute for attribute in node.attribute if attribute.name not in late]
        del node.attribute[:]
        node.attribute.extend(kept)
        if node.op_type == "ReduceMean" and len(node.input) > 1:
            axes = constants[node.input[1]].tolist()
            del node.input[1:]
            kept = [a for a in node.attribute if a.name != "noop_with_empty_axes"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("axes", axes)])
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = min(entry.version, 17)
    model.ir_version = min(model.ir_version, 8)
    _drop_unused_initializers(model)


def to_float32(model: onnx.ModelProto) -> None:
    """Convert float16 and bfloat16 to float32; weights keep their rounded values."""
    for tensor in _tensors(model):
        if tensor.data_type in HALVES:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            )
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in HALVES:
                attribute.i = FLOAT
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in HALVES:
            value.type.tensor_type.elem_type = FLOAT


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the values of initializers and Constant nodes by name."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _followed(model: onnx.ModelProto) -> list[tuple[NodeProto, NodeProto]]:
    """Return pairs of nodes in which the second is the only consumer of the first's output."""
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return [
        (node, users[node.output[0]][0])
        for node in model.graph.node
        if len(users.get(node.output[0], [])) == 1 and users[node.output[0]][0].input[0] == node.output[0]
    ]


def _is_upsampled_conv(
    model: onnx.ModelProto,
    resize: NodeProto,
    pad: NodeProto,
    conv: NodeProto,
    constants: dict[str, NDArray[Any]],
) -> bool:
    """Return whether the three nodes match the pattern of ``upsample_into_conv``."""
    if (resize.op_type, pad.op_type, conv.op_type) != ("Resize", "Pad", "Conv"):
        return False
    how, border, taps = (
        {a.name: helper.get_attribute_value(a) for a in n.attribute} for n in (resize, pad, conv)
    )
    scales = constants.get(resize.input[2]) if len(resize.input) > 2 else None
    pads, weight = constants.get(pad.input[1]), constants.get(conv.input[1])
    return (
        how.get("mode") == b"nearest"
        and how.get("nearest_mode") == b"floor"
        and how.get("coordinate_transformation_mode") == b"asymmetric"
        and scales is not None
        and scales.tolist() == [1, 1, 2, 2]
        and border.get("mode") == b"reflect"
        and pads is not None
        and pads.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
        and weight is not None
        and weight.shape[2:] == (3, 3)
        and (len(conv.input) == 2 or conv.input[2] in constants)
        and taps.get("strides", [1, 1]) == [1, 1]
        and taps.get("pads", [0] * 4) == [0] * 4
        and taps.get("dilations", [1, 1]) == [1, 1]
        and taps.get("group", 1) == 1
        and not any(node is not pad and resize.output[0] in node.input for node in model.graph.node)
    )


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{output}.{op}", **attributes)


def _ints(model: onnx.ModelProto, name: str, values: list[int]) -> str:
    """Return the name of an int64 initializer, added if it is missing."""
    if all(tensor.name != name for tensor in model.graph.initializer):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _replace(model: onnx.ModelProto, old: list[NodeProto], new: list[NodeProto]) -> None:
    """Replace nodes, identified by their outputs, by new ones."""
    gone = {node.output[0] for node in old}
    rest: list[NodeProto] = []
    for node in model.graph.node:
        if node.output[0] == old[-1].output[0]:
            rest.extend(new)
        elif node.output[0] not in gone:
            rest.append(node)
    stale = [value for value in model.graph.value_info if value.name in gone - {old[-1].output[0]}]
    for value in stale:
        model.graph.value_info.remove(value)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in rest]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _drop_unused_initializers(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)


def _swap(model: onnx.ModelProto, first: NodeProto, second: NodeProto) -> None:
    """Swap the operations of two consecutive unary nodes; the value between them loses its stale type."""
    for value in [value for value in model.graph.value_info if value.name == first.output[0]]:
        model.graph.value_info.remove(value)
    kept = onnx.NodeProto()
    kept.CopyFrom(first)
    for node, does in ((first, second), (second, kept)):
        attributes = list(does.attribute)
        node.op_type, node.name = does.op_type, does.name
        del node.attribute[:]
        node.attribute.extend(attributes)
