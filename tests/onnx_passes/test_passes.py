"""Tests of rewritten graphs against the original ones, in ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from mst_deploy.backends.parity import graph_inputs, psnr, sample_picture
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import load_shipped_styles
from mst_deploy.onnx_passes.passes import (
    cast_at_io,
    fold_small_constants,
    phases,
    to_float32,
    to_opset17,
    upsample_into_conv,
)

DIRECTIONS = (2 * 3 * 81 + 5 * 3 * 25 / 16) / 4
"""The gradient of the frame at half resolution, and five averages at an eighth."""
LINES = (8 * (49 + 3 * 25) + 2 * 8 + 8 * 8) / 4
"""Eight lines, drawn in four steps, their agreement with the direction and their variances."""
CANVAS = (25 + 5 * 25 + 9 * 5 * 64) / 4 + DIRECTIONS + LINES
"""Multiply-adds a pixel of the canvas, at half resolution: its filters, and five bands into 64 channels."""


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> Any:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def sample(height: int, width: int) -> dict[str, Any]:
    frames = np.stack([sample_picture(height, width, seed=seed) for seed in (1, 2)])
    films = np.stack([style.film for style in load_shipped_styles()[:2]])
    return graph_inputs(["canvas"], frames, films)


def multiply_adds(model: onnx.ModelProto, height: int, width: int) -> float:
    """Of all convolutions, per pixel of the frame, by the shapes that come out of a run."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    convs = [node for node in watched.graph.node if node.op_type == "Conv"]
    watched.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in convs)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {name: value[:1] for name, value in sample(height, width).items()}
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    total = sum(
        value.size * np.prod(weights[node.input[1]][1:])
        for node, value in zip(convs, session.run(None, inputs), strict=True)
    )
    return float(total / (height * width))


@pytest.mark.parametrize("size", [(64, 96), (57, 83), (8, 8), (9, 30)])
def test_phases_give_the_same_picture(bundle: Bundle, size: tuple[int, int]) -> None:
    """In float32 to a rounding of the last bit of a byte; odd sizes are cropped after the doubling."""
    model = onnx.load(bundle.generator)
    to_float32(model)
    wanted = run(model, sample(*size))
    assert upsample_into_conv(model) == 2
    found = run(model, sample(*size))
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    assert psnr(found, wanted) > 60


def test_phases_of_the_shipped_float16_graph(bundle: Bundle) -> None:
    """Added-up weights are rounded to float16 once more: 40 dB is invisible, 50 is found."""
    model = onnx.load(bundle.generator)
    wanted = run(model, sample(120, 160))
    assert upsample_into_conv(model) == 2
    assert psnr(run(model, sample(120, 160)), wanted) > 50


def test_phases_are_the_convolution_over_the_doubled_map() -> None:
    """By PyTorch: doubled, border reflected, 3x3; against 2x2 over the map with its edge repeated."""
    torch.manual_seed(0)
    x, weight = torch.rand(1, 3, 5, 4), torch.rand(2, 3, 3, 3)
    wanted = F.conv2d(F.pad(F.interpolate(x, scale_factor=2), (1,) * 4, mode="reflect"), weight)
    every = F.conv2d(F.pad(x, (1,) * 4, mode="replicate"), torch.from_numpy(phases(weight.numpy())))
    found = torch.empty_like(wanted)
    for row in (0, 1):
        for column in (0, 1):
            own = 2 * (2 * row + column)
            found[:, :, row::2, column::2] = every[:, own : own + 2, row : row + 5, column : column + 4]
    torch.testing.assert_close(found, wanted)


def test_arithmetic_that_is_saved(bundle: Bundle) -> None:
    """153,792 multiply-adds a pixel as exported; 5/9 of the two doubled convolutions' 18,432 each less.

    The phases are computed on one more row and column of the low-resolution map than is used.
    """
    model = onnx.load(bundle.generator)
    assert multiply_adds(model, 512, 512) == pytest.approx(153_792 + CANVAS)
    upsample_into_conv(model)
    saved = 153_792 + CANVAS - multiply_adds(model, 512, 512)
    assert saved == pytest.approx(2 * 18_432 * 5 / 9, rel=0.01)


def doubled_conv(**changed: Any) -> onnx.ModelProto:
    """Resize, Pad, Conv as exported, with something changed."""
    how = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
        "scales": [1, 1, 2, 2],
        "pads": [0, 0, 1, 1, 0, 0, 1, 1],
        "border": "reflect",
        "strides": [1, 1],
        **changed,
    }
    nodes = [
        helper.make_node(
            "Resize",
            ["x", "", "scales"],
            ["big"],
            mode=how["mode"],
            nearest_mode=how["nearest_mode"],
            coordinate_transformation_mode=how["coordinate_transformation_mode"],
        ),
        helper.make_node("Pad", ["big", "pads"], ["padded"], mode=how["border"]),
        helper.make_node("Conv", ["padded", "w"], ["y"], strides=how["strides"]),
    ]
    values: dict[str, Any] = {
        "scales": np.array(how["scales"], np.float32),
        "pads": np.array(how["pads"], np.int64),
        "w": np.random.default_rng(0).normal(0, 1, (2, 3, 3, 3)).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "h", "w"])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_only_what_is_known_is_replaced() -> None:
    x = {"x": np.random.default_rng(1).normal(0, 1, (1, 3, 6, 7)).astype(np.float32)}
    model = doubled_conv()
    wanted = run(model, x)
    assert upsample_into_conv(model) == 1
    np.testing.assert_allclose(run(model, x), wanted, atol=1e-5)
    for changed in (
        {"mode": "linear"},
        {"nearest_mode": "ceil"},
        {"scales": [1, 1, 3, 3]},
        {"border": "constant"},
        {"strides": [2, 2]},
        {"pads": [0, 0, 2, 2, 0, 0, 2, 2]},
    ):
        assert upsample_into_conv(doubled_conv(**changed)) == 0, changed


def test_constants_are_computed_once_and_zero_biases_go(bundle: Bundle) -> None:
    model = onnx.load(bundle.generator)
    wanted = run(model, sample(40, 60))
    assert fold_small_constants(model) > 0
    assert fold_small_constants(model) == 0
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [len(node.input) for node in convs] == [2] * (15 + 7 + 12) + [3]  # only the last layer has a bias
    assert np.abs(run(model, sample(40, 60)).astype(int) - wanted.astype(int)).max() <= 1


def test_casts_move_to_inputs_and_outputs_once(bundle: Bundle) -> None:
    model = onnx.load(bundle.generator)
    wanted = run(model, sample(57, 83))
    assert cast_at_io(model) == 3  # frames, canvas, result
    np.testing.assert_array_equal(run(model, sample(57, 83)), wanted)
    assert cast_at_io(model) == 0


@pytest.mark.parametrize("graph", ["generator", "style_encoder"])
def test_opset_17_computes_the_same(bundle: Bundle, graph: str) -> None:
    model = onnx.load(getattr(bundle, graph))
    inputs = sample(60, 80) if graph == "generator" else {"style": sample(128, 160)["frames"]}
    wanted = run(model, inputs)
    to_opset17(model)
    assert model.opset_import[0].version == 17
    np.testing.assert_array_equal(run(model, inputs), wanted)


def test_float32_copy_has_no_float16_left_and_gives_nearly_the_same(bundle: Bundle) -> None:
    """The shipped graph is FP16; on a CPU that is float32 with rounded activations."""
    model = onnx.load(bundle.generator)
    wanted = run(model, sample(57, 83))
    to_float32(model)
    types = {
        value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    assert TensorProto.FLOAT16 not in types
    assert psnr(run(model, sample(57, 83)), wanted) > 50
