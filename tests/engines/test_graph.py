"""What TensorRT is given computes the same bytes as what was exported, and holds no operator it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from mst_deploy.checking import psnr, sample_picture
from mst_deploy.engines.graph import as_float32, cast_at_the_doors, for_tensorrt, read
from mst_deploy.engines.layers import convolution_types, half_share, type_of
from mst_deploy.errors import BundleError
from mst_deploy.manifest import Bundle
from mst_deploy.shipped import load_shipped_styles

# Operators of the generator that the ONNX parser of TensorRT 8.6, 10 and 11 supports, from its public
# table (onnx/onnx-tensorrt, docs/operators.md); reflected Pad since 8.6, Round since 8.0.
SUPPORTED = {
    "Add", "Cast", "Clip", "Concat", "Constant", "Conv", "Div", "Expand", "Gather", "InstanceNormalization",
    "Max", "Min", "Mul", "Pad", "Relu", "Reshape", "Resize", "Round", "Shape", "Sigmoid", "Slice", "Squeeze",
    "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip


def run(model: bytes, frames: Any, films: Any) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["stylized"], {"frames": frames, "film": films})[0]


def sample(size: tuple[int, int] = (57, 83)) -> tuple[Any, Any]:
    frames = np.stack([sample_picture(*size, seed=seed) for seed in (1, 2)])
    return frames, np.stack([style.film for style in load_shipped_styles()[:2]])


def test_bytes_are_cast_at_the_doors_and_the_result_is_the_same(bundle: Bundle) -> None:
    frames, films = sample()
    changed = for_tensorrt(bundle.generator)
    np.testing.assert_array_equal(
        run(changed, frames, films), run(bundle.generator.read_bytes(), frames, films)
    )
    model = onnx.load_from_string(changed)
    users = [node for node in model.graph.node if "frames" in node.input]
    assert {node.op_type for node in users} <= {"Cast", "Shape"}
    (last,) = [node for node in model.graph.node if "stylized" in node.output]
    assert last.op_type == "Cast"
    assert cast_at_the_doors(model) == 0  # nothing left to swap


def test_no_operator_outside_of_tensorrts_list(bundle: Bundle) -> None:
    found = {node.op_type for node in onnx.load_from_string(for_tensorrt(bundle.generator)).graph.node}
    assert found <= SUPPORTED, f"not supported: {found - SUPPORTED}"


def test_float32_copy_has_no_float16_left_and_gives_nearly_the_same(bundle: Bundle) -> None:
    """The shipped graph is FP16; on a CPU that is float32 with rounded activations."""
    frames, films = sample()
    copy = as_float32(read(bundle.generator))
    assert b"FLOAT16" not in onnx.printer.to_text(copy).upper().encode()
    assert psnr(run(copy.SerializeToString(), frames, films),
                run(bundle.generator.read_bytes(), frames, films)) > 50  # fmt: skip


def test_statistics_stay_float32_in_the_typed_graph(bundle: Bundle) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(for_tensorrt(bundle.generator)))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(norms) == 15
    assert len(convs) == 16
    assert {types[node.output[0]] for node in norms} == {onnx.TensorProto.FLOAT}
    assert {types[node.output[0]] for node in convs} == {onnx.TensorProto.FLOAT16}


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="as ONNX"):
        for_tensorrt(tmp_path / "x.onnx")


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
    assert half_share([]) is None
    assert type_of({"Datatype": "BFloat16"}) == "other"
