"""The generator cut in front of every instance normalization, for pictures whose maps do not fit into memory.

A normalization needs mean and variance of a whole map. So the network is run stage by stage, each for all
tiles of a picture: a stage computes the map that the next normalization sees and measures it, given the
statistics of the earlier ones. What it computes is stored for the next stage, except at full resolution,
where maps are largest and convolutions cost little: there it is computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mst_deploy.onnx_passes.passes import upsample_into_conv
from mst_deploy.onnx_passes.stage import (
    BANDS,
    DOWN,
    INNER,
    LINES,
    MEASURED,
    MEASURED_SHAPE,
    PICTURE,
    SUM,
    TRUNK,
    UP,
    WINDOW,
    WRITTEN,
    Stage,
    StatisticsNames,
)
from mst_deploy.onnx_passes.statistics import give_statistics

LARGEST_HALF = 65504.0


def cut_into_stages(model: onnx.ModelProto, bands: int) -> list[Stage]:
    """Cut a generator in float32 with FiLM into stages, in their order.

    ``bands`` is the number of octaves of its canvas. The last stage makes the picture. Raises ValueError
    for a graph of another structure.
    """
    seen = [node.input[0] for node in model.graph.node if node.op_type == "InstanceNormalization"]
    names = give_statistics(model)
    upsample_into_conv(model)
    cutter = _Cutter(model)
    stages = []
    known: dict[str, str] = {}  # name in the graph of what is stored -> name as a stored map
    if bands:
        halved, octaves = cutter.canvas_only(), cutter.octaves()
        # at half resolution, one 5x5 convolution for each octave
        radius = 2 * sum(2 * 2**band for band in range(bands))
        if halved == octaves:  # a 5x5 convolution at full resolution before
            stages.append(cutter.stage({}, 2, 2 + radius, {octaves: BANDS}))
        else:
            # lines: 7x7 and three of 5x5 at half resolution, the latter with dilations 1, 2, 4
            stages.append(cutter.stage({}, 2, 2 + 2 * (3 + 2 * 7), {halved: LINES}))
            # directions: 9x9, cells of 8 pixels with five of 5x5, dilations 1 to 16, and interpolation
            around = 4 + 8 * (1 + 2 * 31 + 1)
            stages.append(cutter.stage({halved: LINES}, 2, around + radius, {octaves: BANDS}))
        known[octaves] = BANDS
    # 9x9 at full resolution; with 3x3 there, or at half resolution for the canvas; 3x3 at half resolution
    stages.append(cutter.stage(known, 1, 4, {}, seen[0], names[0]))
    stages.append(cutter.stage(known, 2, 5, {seen[1]: DOWN}, seen[1], names[1]))
    stages.append(cutter.stage({seen[1]: DOWN}, 4, 2, {seen[2]: TRUNK}, seen[2], names[2]))
    known = {seen[2]: TRUNK}
    for first in range(3, len(seen) - 2, 2):
        before = cutter.convolved(seen[first])
        stages.append(cutter.stage(known, 4, 4, {seen[first]: INNER}, seen[first], names[first]))
        known[seen[first]] = INNER
        made = {seen[first + 1]: TRUNK, before: SUM}
        stages.append(cutter.stage(known, 4, 4, made, seen[first + 1], names[first + 1]))
        known = made
    # 3x3 at half resolution; 3x3 at full resolution; with 9x9 there
    stages.append(cutter.stage(known, 2, 2, {seen[-2]: UP}, seen[-2], names[-2]))
    known = {seen[-2]: UP}
    stages.append(cutter.stage(known, 1, 1, {}, seen[-1], names[-1]))
    stages.append(cutter.stage(known, 1, 5, {}))
    return stages


@dataclass
class _Cutter:
    """A float32 graph whose normalizations are given their statistics."""

    model: onnx.ModelProto
    makers: dict[str, NodeProto] = field(init=False)

    def __post_init__(self) -> None:
        self.makers = {output: node for node in self.model.graph.node for output in node.output}

    def canvas_only(self) -> str:
        """Return the map that depends on nothing but the canvas, and that others are computed from."""
        own = {"canvas"}
        constants = {tensor.name for tensor in self.model.graph.initializer}
        for node in self.model.graph.node:
            if own & {*node.input} and {*node.input} <= own | constants:
                own |= {*node.output}
        last: set[str] = {
            name
            for node in self.model.graph.node
            if not {*node.output} <= own
            for name in node.input
            if name in own and self.makers.get(name) is not None and self.makers[name].op_type != "Shape"
        }
        if len(last) != 1:
            raise ValueError(f"the octaves of the canvas are {sorted(last)}, not one map")
        return last.pop()

    def octaves(self) -> str:
        """Return the map that is multiplied by the gains of the octaves, which are a part of ``film``."""
        constants = {tensor.name for tensor in self.model.graph.initializer}
        canvas, film = {"canvas"}, {"film"}
        for node in self.model.graph.node:
            read = {*node.input} - {""}
            if node.op_type == "Shape":
                continue
            if canvas & read and film & read:
                return (canvas & read).pop()
            if canvas & read:
                canvas |= {*node.output}
            if film & read and read <= film | constants:
                film |= {*node.output}
        raise ValueError("nothing of the canvas is multiplied by values of film")

    def convolved(self, name: str) -> str:
        """Return the map that the convolution which makes another one reads."""
        for kind, needed in (("Cast", False), ("Conv", True), ("Pad", False)):
            maker = self.makers[name]
            if maker.op_type == kind:
                name = maker.input[0]
            elif needed:
                raise ValueError(f"{name} is made by {maker.op_type}, not by a convolution")
        return name

    def stage(
        self,
        known: Mapping[str, str],
        step: int,
        radius: int,
        writes: Mapping[str, str],
        measured: str = "",
        measures: StatisticsNames | None = None,
    ) -> Stage:
        """Return what computes maps from those that are known, or the picture if there are none."""
        sources = self.model.graph
        last = not (writes or measured)
        wanted = {*writes, measured} - {""} or {"stylized"}
        nodes, needed = self._needed(wanted, set(known))
        inputs = [value for value in sources.input if value.name in needed]
        opened = [
            helper.make_node("Cast", [known[name]], [name], to=TensorProto.FLOAT)
            for name in sorted(needed & set(known))
        ]
        closed = [
            node
            for name in sorted(wanted)
            for node in _keeping(name, writes.get(name, ""), measured=name == measured, picture=last)
        ]
        outputs = [_value(f"{name}{WRITTEN}", TensorProto.FLOAT16) for name in writes.values()]
        if measured:
            outputs += [_value(name, TensorProto.FLOAT) for name in (MEASURED.mean, MEASURED.variance)]
            outputs.append(_value(MEASURED_SHAPE, TensorProto.INT64))
        if last:
            outputs = [_value(PICTURE, TensorProto.UINT8)]
        inputs += [_value(known[name], TensorProto.FLOAT16) for name in sorted(needed & set(known))]
        inputs.append(_value(WINDOW, TensorProto.INT64))
        graph = helper.make_graph(
            [*opened, *nodes, *closed],
            "stage",
            inputs,
            outputs,
            [*(tensor for tensor in sources.initializer if tensor.name in needed), *_constants()],
        )
        cut = helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )
        return Stage(
            bytes(cut.SerializeToString()),
            frozenset(value.name for value in inputs),
            tuple(value.name for value in outputs),
            step,
            radius,
            tuple(writes.values()),
            measures,
        )

    def _needed(self, wanted: set[str], known: set[str]) -> tuple[list[NodeProto], set[str]]:
        """Return the nodes that compute maps from known ones, in order, and all names that they read."""
        needed, nodes = set(wanted), []
        for node in reversed(self.model.graph.node):
            if needed & ({*node.output} - known):
                nodes.append(node)
                needed |= {name for name in node.input if name}
        return nodes[::-1], needed


def _keeping(name: str, stored: str, *, measured: bool, picture: bool) -> Iterable[NodeProto]:
    """Yield nodes that cut the window out of a map, measure it, and bring it into its stored form."""
    kept = PICTURE if picture else f"{name}.kept"
    axes = "window.rows_columns" if picture else "window.height_width"
    bounds = [f"{name}.{end}" for end in ("begin", "end")]
    yield helper.make_node("Split", [WINDOW], bounds, axis=0, num_outputs=2)
    yield helper.make_node("Slice", [name, *bounds, axes], [kept])
    if stored:
        yield helper.make_node("Clip", [kept, "least_half", "largest_half"], [f"{name}.limited"])
        yield helper.make_node("Cast", [f"{name}.limited"], [f"{stored}{WRITTEN}"], to=TensorProto.FLOAT16)
    if measured:
        yield helper.make_node("Shape", [kept], [MEASURED_SHAPE])
        yield helper.make_node("ReduceMean", [kept, "window.height_width"], [MEASURED.mean], keepdims=1)
        yield helper.make_node("Sub", [kept, MEASURED.mean], ["centered"])
        yield helper.make_node("Mul", ["centered", "centered"], ["squared"])
        yield helper.make_node(
            "ReduceMean", ["squared", "window.height_width"], [MEASURED.variance], keepdims=1
        )


def _constants() -> list[TensorProto]:
    values: dict[str, NDArray[Any]] = {
        "window.height_width": np.array([2, 3], np.int64),
        "window.rows_columns": np.array([1, 2], np.int64),
        "least_half": np.array(-LARGEST_HALF, np.float32),
        "largest_half": np.array(LARGEST_HALF, np.float32),
    }
    return [numpy_helper.from_array(value, name) for name, value in values.items()]


def _value(name: str, kind: int) -> onnx.ValueInfoProto:
    """Return the declaration of a map or picture, or of the four numbers of a window or shape."""
    sizes: list[int | None] = [4] if kind == TensorProto.INT64 else [None] * 4
    return helper.make_tensor_value_info(name, kind, sizes)
