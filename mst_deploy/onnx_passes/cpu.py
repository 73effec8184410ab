"""The exported graphs as ONNX Runtime computes them fastest on a CPU.

A CPU has no float16 arithmetic: ONNX Runtime casts at every node of such a graph. Here the weights are cast
once, when the session is made. The file on disk stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from mst_deploy.errors import BundleError
from mst_deploy.onnx_passes.passes import fold_small_constants, to_float32, upsample_into_conv
from mst_deploy.onnx_passes.statistics import StatisticsNames, give_statistics, measure_statistics


def for_cpu(path: Path) -> bytes:
    """The graph of a file in float32, serialized, without the work it can do without. Raises BundleError."""
    model = _in_float32(path)
    film_into_norm(model)
    upsample_into_conv(model)
    return bytes(model.SerializeToString())


def for_tiles(path: Path, *, measure: bool) -> tuple[bytes, list[StatisticsNames]]:
    """As :func:`for_cpu`, with the statistics of the normalizations as outputs, or as inputs.

    Raises BundleError, and ValueError for a graph whose normalizations have no FiLM.
    """
    model = _in_float32(path)
    names = measure_statistics(model) if measure else give_statistics(model)
    upsample_into_conv(model)
    return bytes(model.SerializeToString()), names


def _in_float32(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except Exception as error:  # onnx and protobuf share no base class
        raise BundleError(f"cannot read {path} as ONNX: {error}") from error
    to_float32(model)
    fold_small_constants(model)
    return model


def film_into_norm(model: onnx.ModelProto) -> int:
    """Let the instance normalization apply the film: two passes over every map less.

    Its scale and shift are one value a channel for all images, a FiLM vector is one for each image; so images
    are laid out as channels of one image, which moves no byte. Says how many were replaced.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    constants = _constants(model)
    replaced: dict[str, list[NodeProto]] = {}
    gone: set[str] = set()
    for norm in [node for node in model.graph.node if node.op_type == "InstanceNormalization"]:
        scale, shift = _film_of(norm, users, makers, constants)
        if scale is None or shift is None:
            continue
        channels = len(constants[norm.input[1]])
        gone |= {norm.output[0], scale.output[0]}
        replaced[shift.output[0]] = _film_nodes(
            model, norm, (makers[scale.input[1]], makers[shift.input[1]]), shift.output[0], channels
        )
    kept = [
        onnx.NodeProto.FromString(new.SerializeToString())
        for node in model.graph.node
        if node.output[0] not in gone
        for new in replaced.get(node.output[0], [node])
    ]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    stale = [value for value in model.graph.value_info if value.name in gone]
    for value in stale:
        model.graph.value_info.remove(value)
    return len(replaced)


def _film_of(
    norm: NodeProto,
    users: dict[str, list[NodeProto]],
    makers: dict[str, NodeProto],
    constants: dict[str, NDArray[Any]],
) -> tuple[NodeProto | None, NodeProto | None]:
    """The multiplication and the addition after a plain normalization, if they are one value a channel."""
    ones, zeros = (constants.get(name) for name in norm.input[1:3])
    if ones is None or zeros is None or (ones != 1).any() or zeros.any():
        return None, None
    found = []
    last = norm
    for kind in ("Mul", "Add"):
        following = users.get(last.output[0], [])
        if len(following) != 1 or following[0].op_type != kind or following[0].input[0] != last.output[0]:
            return None, None
        last = following[0]
        row = makers.get(last.input[1])
        axes = constants.get(row.input[1]) if row is not None and row.op_type == "Unsqueeze" else None
        if axes is None or axes.tolist() != [2, 3]:
            return None, None
        found.append(last)
    return found[0], found[1]


def _film_nodes(
    model: onnx.ModelProto, norm: NodeProto, rows: tuple[NodeProto, NodeProto], output: str, channels: int
) -> list[NodeProto]:
    """(N, C, H, W) as (1, NC, H, W), normalized with N C scales and shifts, and back."""
    name = norm.output[0]
    flat = _shape(model, "film.flat", [-1])
    together = _shape(model, "film.together", [1, -1, 0, 0])
    apart = _shape(model, f"film.apart{channels}", [-1, channels, 0, 0])
    nodes = [helper.make_node("Reshape", [norm.input[0], together], [f"{name}.together"])]
    for row, what in zip(rows, ("scale", "shift"), strict=True):
        nodes.append(helper.make_node("Reshape", [row.input[0], flat], [f"{name}.{what}"]))
    filmed = helper.make_node(
        "InstanceNormalization", [node.output[0] for node in nodes], [f"{name}.filmed"], name=norm.name
    )
    filmed.attribute.extend(norm.attribute)
    return [*nodes, filmed, helper.make_node("Reshape", [f"{name}.filmed", apart], [output])]


def _shape(model: onnx.ModelProto, name: str, values: list[int]) -> str:
    if all(tensor.name != name for tensor in model.graph.initializer):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
