"""Optimization of the exported graphs for ONNX Runtime on a CPU.

A CPU has no float16 arithmetic: ONNX Runtime casts at every node of such a graph. Here the weights are cast
once, when the session is created. The file on disk is not changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from mst_deploy.onnx_passes.cut import cut_into_stages
from mst_deploy.onnx_passes.passes import fold_small_constants, read_graph, to_float32, upsample_into_conv
from mst_deploy.onnx_passes.stage import Stage


def for_cpu(path: Path) -> bytes:
    """Return the graph of a file in float32, optimized and serialized. Raises BundleError."""
    model = in_float32(path)
    film_into_norm(model)
    upsample_into_conv(model)
    return bytes(model.SerializeToString())


def for_tiles(path: Path, bands: int) -> list[Stage]:
    """Return the graph of a file in float32, cut into stages that are run tile by tile.

    ``bands`` is the number of octaves of its canvas. Raises BundleError, and ValueError for a graph that is
    not a generator with FiLM.
    """
    return cut_into_stages(in_float32(path), bands)


def in_float32(path: Path) -> onnx.ModelProto:
    """Return the graph of a file in float32, without constants that are computed. Raises BundleError."""
    model = read_graph(path)
    to_float32(model)
    fold_small_constants(model)
    return model


def film_into_norm(model: onnx.ModelProto) -> int:
    """Fuse the FiLM scale and shift into the instance normalization; return how many were replaced.

    This saves two passes over every map. The operator's scale and shift are one value per channel for all
    images, FiLM parameters are one for each image; so images are laid out as channels of one image, which
    moves no data.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    constants = _constants(model)
    replaced: dict[str, list[NodeProto]] = {}
    gone: set[str] = set()
    for norm in [node for node in model.graph.node if node.op_type == "InstanceNormalization"]:
        scale, shift = _film_of(norm, users, producers, constants)
        if scale is None or shift is None:
            continue
        channels = len(constants[norm.input[1]])
        gone |= {norm.output[0], scale.output[0]}
        replaced[shift.output[0]] = _film_nodes(
            model, norm, (producers[scale.input[1]], producers[shift.input[1]]), shift.output[0], channels
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
    producers: dict[str, NodeProto],
    constants: dict[str, NDArray[Any]],
) -> tuple[NodeProto | None, NodeProto | None]:
    """Return the multiplication and the addition after a plain normalization, if they are one value per
    channel."""
    ones, zeros = (constants.get(name) for name in norm.input[1:3])
    if ones is None or zeros is None or (ones != 1).any() or zeros.any():
        return None, None
    matched = []
    last = norm
    for kind in ("Mul", "Add"):
        following = users.get(last.output[0], [])
        if len(following) != 1 or following[0].op_type != kind or following[0].input[0] != last.output[0]:
            return None, None
        last = following[0]
        unsqueeze = producers.get(last.input[1])
        axes = (
            constants.get(unsqueeze.input[1])
            if unsqueeze is not None and unsqueeze.op_type == "Unsqueeze"
            else None
        )
        if axes is None or axes.tolist() != [2, 3]:
            return None, None
        matched.append(last)
    return matched[0], matched[1]


def _film_nodes(
    model: onnx.ModelProto,
    norm: NodeProto,
    unsqueezed: tuple[NodeProto, NodeProto],
    output: str,
    channels: int,
) -> list[NodeProto]:
    """Return nodes that normalize (N, C, H, W) as (1, NC, H, W), with N C scales and shifts."""
    name = norm.output[0]
    flat = _shape(model, "film.flat", [-1])
    together = _shape(model, "film.together", [1, -1, 0, 0])
    apart = _shape(model, f"film.apart{channels}", [-1, channels, 0, 0])
    nodes = [helper.make_node("Reshape", [norm.input[0], together], [f"{name}.together"])]
    for unsqueeze, what in zip(unsqueezed, ("scale", "shift"), strict=True):
        nodes.append(helper.make_node("Reshape", [unsqueeze.input[0], flat], [f"{name}.{what}"]))
    modulated = helper.make_node(
        "InstanceNormalization", [node.output[0] for node in nodes], [f"{name}.filmed"], name=norm.name
    )
    modulated.attribute.extend(norm.attribute)
    return [*nodes, modulated, helper.make_node("Reshape", [f"{name}.filmed", apart], [output])]


def _shape(model: onnx.ModelProto, name: str, values: list[int]) -> str:
    if all(tensor.name != name for tensor in model.graph.initializer):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
