"""Instance normalizations whose statistics are inputs of the graph, for pictures in tiles.

A normalization looks at a whole map. Where a map does not fit into memory, each tile of it is normalized with
the mean and the variance of the whole, which are measured before (``cut``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mst_deploy.onnx_passes.stage import StatisticsNames


def give_statistics(model: onnx.ModelProto) -> list[StatisticsNames]:
    """Make mean and variance of every instance normalization inputs of a float32 graph.

    Normalization and FiLM become one multiplication and one addition of the map. For one image at a time.
    Raises ValueError for a normalization without FiLM.
    """
    norms = _normalizations(model)
    nodes = list(model.graph.node)
    for norm, name in norms:
        nodes.remove(norm)
        nodes += _given(model, norm, name, nodes)
    _set_nodes(model, nodes)
    return [name for _, name in norms]


def _normalizations(model: onnx.ModelProto) -> list[tuple[NodeProto, StatisticsNames]]:
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    return [
        (norm, StatisticsNames(f"statistics.mean{index}", f"statistics.variance{index}"))
        for index, norm in enumerate(norms)
    ]


def _given(
    model: onnx.ModelProto, norm: NodeProto, name: StatisticsNames, nodes: list[NodeProto]
) -> Iterator[NodeProto]:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta, as one multiplication and one addition a map."""
    own = norm.output[0]
    (scale,) = [node for node in nodes if own in node.input]
    (shift,) = [node for node in nodes if scale.output[0] in node.input]
    if (scale.op_type, shift.op_type, scale.input[0]) != ("Mul", "Add", own):
        raise ValueError(f"the normalization {own} is not followed by its film")
    epsilon = next(attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
    model.graph.initializer.append(numpy_helper.from_array(np.array(epsilon, np.float32), f"{own}.epsilon"))
    for value in (name.mean, name.variance):
        model.graph.input.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, None, 1, 1]))
    yield helper.make_node("Add", [name.variance, f"{own}.epsilon"], [f"{own}.positive"])
    yield helper.make_node("Sqrt", [f"{own}.positive"], [f"{own}.deviation"])
    yield helper.make_node("Div", [scale.input[1], f"{own}.deviation"], [f"{own}.factor"])
    yield helper.make_node("Mul", [name.mean, f"{own}.factor"], [f"{own}.moved"])
    yield helper.make_node("Sub", [shift.input[1], f"{own}.moved"], [f"{own}.added"])
    scale.input[:] = [norm.input[0], f"{own}.factor"]
    shift.input[1] = f"{own}.added"


def _set_nodes(model: onnx.ModelProto, nodes: list[NodeProto]) -> None:
    """Give the graph these nodes, each after those that it reads from."""
    makers = {output: node for node in nodes for output in node.output}
    ordered: dict[int, NodeProto] = {}

    def place(node: NodeProto) -> None:
        stack = [node]
        while stack:
            top = stack[-1]
            missing = [makers[name] for name in top.input if name in makers]
            missing = [maker for maker in missing if id(maker) not in ordered]
            if missing and id(top) not in ordered:
                stack += missing
            else:
                ordered.setdefault(id(stack.pop()), top)

    for node in nodes:
        place(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in ordered.values()]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    del model.graph.value_info[:]
