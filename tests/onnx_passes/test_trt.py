"""Tests of the graph for TensorRT: the same bytes as from the exported one, and only supported operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from mst_deploy.backends.parity import graph_inputs, sample_picture
from mst_deploy.engines.layers import convolution_types, half_share, type_of
from mst_deploy.errors import BundleError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import load_shipped_styles
from mst_deploy.onnx_passes.trt import for_tensorrt

# Operators that the ONNX parser of TensorRT 8.6, 10 and 11 supports, from its public table
# (onnx/onnx-tensorrt, docs/operators.md), as far as the generator could use them; reflected Pad since 8.6.
SUPPORTED = {
    "Add",
    "AveragePool",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "DepthToSpace",
    "Div",
    "Expand",
    "Gather",
    "InstanceNormalization",
    "Max",
    "Min",
    "Mul",
    "Pad",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
}
MAJORS = (8, 10, 11)


def run(model: bytes, frames: Any, films: Any) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(["stylized"], graph_inputs(names, frames, films))[0]


def sample(size: tuple[int, int] = (57, 83)) -> tuple[Any, Any]:
    frames = np.stack([sample_picture(*size, seed=seed) for seed in (1, 2)])
    return frames, np.stack([style.film for style in load_shipped_styles()[:2]])


@pytest.mark.parametrize("major", MAJORS)
def test_bytes_are_cast_at_inputs_and_outputs_and_the_result_is_the_same(bundle: Bundle, major: int) -> None:
    frames, films = sample()
    changed = for_tensorrt(bundle.generator, major, rewrite=False)
    wanted = run(bundle.generator.read_bytes(), frames, films)
    # Dropping zero biases lets ONNX Runtime round some float16 values the other way.
    assert np.abs(run(changed, frames, films).astype(int) - wanted.astype(int)).max() <= 1
    model = onnx.load_from_string(changed)
    for name in ("frames", "canvas"):
        users = [node for node in model.graph.node if name in node.input]
        assert {node.op_type for node in users} <= {"Cast", "Shape"}
    (last,) = [node for node in model.graph.node if "stylized" in node.output]
    assert last.op_type == "Cast"
    assert model.opset_import[0].version == (17 if major == 8 else 20)


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("rewrite", [False, True])
def test_no_operator_outside_of_tensorrts_list(bundle: Bundle, major: int, rewrite: bool) -> None:
    graph = onnx.load_from_string(for_tensorrt(bundle.generator, major, rewrite=rewrite)).graph
    found = {node.op_type for node in graph.node}
    assert found <= SUPPORTED, f"not supported: {found - SUPPORTED}"


def test_statistics_stay_float32_in_the_typed_graph(bundle: Bundle) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(for_tensorrt(bundle.generator, 10)))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(norms) == 15
    # the canvas, the filters that split it into five bands, those of directions and of lines
    assert len(convs) == 16 + 1 + 6 + (1 + 5) + (2 + 1 + 3)
    assert {types[node.output[0]] for node in norms} == {onnx.TensorProto.FLOAT}
    assert {types[node.output[0]] for node in convs} == {onnx.TensorProto.FLOAT16}


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="as ONNX"):
        for_tensorrt(tmp_path / "x.onnx", 10)


def test_share_of_convolutions_in_both_forms_of_the_inspectors_text() -> None:
    """Form of 8.6 and 10, and of 11 (migration guide: the type is split off the format)."""
    layers = [
        {"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Channel major FP16 format"}]},
        {"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"LayerType": "fusedPointwiseConv", "Inputs": [{"Format": "Linear", "Datatype": "Half"}]},
        {"LayerType": "CaskConvolution", "Inputs": [{"Format": "HWC8", "Datatype": "Float"}]},
        {"LayerType": "PointWiseV2", "Inputs": [{"Format/Datatype": "FP32"}]},
    ]
    assert convolution_types(layers) == {"fp16": 2, "fp32": 2}
    assert half_share(layers) == 0.5
    for_rtx = [
        {"LayerType": "correlation", "Name": "a", "Inputs": [{"Datatype": "Half"}]},
        {"LayerType": "runtime_fusion", "Name": "__myl_CorrSub_myl0_11", "Inputs": [{"Datatype": "Float"}]},
        {"LayerType": "runtime_fusion", "Name": "__myl_Conc", "Inputs": [{"Datatype": "Float"}]},
        {"LayerType": "kgen", "Name": "__myl_CastMean", "Inputs": [{"Datatype": "Float"}]},
    ]
    assert convolution_types(for_rtx) == {"fp16": 1, "fp32": 1}
    assert half_share([]) is None
    assert type_of({"Datatype": "BFloat16"}) == "other"
