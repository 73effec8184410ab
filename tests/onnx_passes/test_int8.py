"""Graphs in 8 bits against integer arithmetic by hand, and the forms that runtimes need."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mst_deploy.onnx_passes.int8 import (
    PIXELS,
    Affine,
    pixels_into_convolution,
    quantize,
    quantized_weight,
    reads_pixels,
    to_signed,
)

WEIGHT = "generator.down1.conv.weight"
RNG = np.random.default_rng(0)


def graph_of(nodes: list[Any], weight: NDArray[np.float32], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    shape = ["N", weight.shape[1], "H", "W"]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(weight), "h", "w"])],
        [
            numpy_helper.from_array(weight, WEIGHT),
            *(numpy_helper.from_array(np.array(v, np.float32), f"c{v}") for v in (1, 2, 255)),
            numpy_helper.from_array(np.ones(len(weight), np.float32), "ones"),
            numpy_helper.from_array(np.zeros(len(weight), np.float32), "zeros"),
            numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "border"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: NDArray[Any]) -> NDArray[np.float32]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def convolution() -> tuple[onnx.ModelProto, NDArray[np.float32], NDArray[np.float32]]:
    weight = RNG.normal(0, [[[[0.1]]], [[[2.0]]]], (2, 3, 3, 3)).astype(np.float32)
    x = RNG.normal(0.4, 1, (1, 3, 5, 6)).astype(np.float32)
    return graph_of([helper.make_node("Conv", ["x", WEIGHT], ["y"])], weight), weight, x


def test_a_convolution_is_the_sum_of_products_of_integers() -> None:
    model, weight, x = convolution()
    affine = Affine.over(-1.5, 2.0)
    quantize(model, {"down1": affine})
    integers = np.rint(x / np.float32(affine.scale)).astype(np.int64) + affine.zero_point
    centered = integers.clip(0, 255) - affine.zero_point  # (1, 3, 5, 6)
    scales = np.abs(weight).reshape(2, -1).max(axis=1) / 127
    taps = np.rint(weight / scales[:, None, None, None]).astype(np.int64)
    sums = np.zeros((1, 2, 3, 4), np.int64)
    for row in range(3):
        for column in range(4):
            window = centered[:, None, :, row : row + 3, column : column + 3]
            sums[:, :, row, column] = (window * taps).sum(axis=(2, 3, 4))
    wanted = sums * affine.scale * scales[:, None, None]
    np.testing.assert_allclose(run(model, x), wanted, rtol=1e-5, atol=1e-5)
    assert (np.abs(taps).reshape(2, -1).max(axis=1) == 127).all()
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert WEIGHT not in stored  # nothing is in the file twice
    assert stored["down1.weight.int8"] == TensorProto.INT8


def test_weights_of_nothing_stay_nothing() -> None:
    integers, scales = quantized_weight(np.zeros((2, 1, 3, 3), np.float32))
    assert not integers.any()
    assert (scales > 0).all()


@pytest.mark.parametrize(
    ("ends", "zero_point"), [((0, 10), 0), ((-10, 0), 255), ((-1, 1), 128), ((2, 5), 0), ((0, 0), 0)]
)
def test_ranges_hold_their_ends_and_zero_exactly(ends: tuple[float, float], zero_point: int) -> None:
    affine = Affine.over(*ends)
    assert affine.zero_point == zero_point
    for end in ends:
        integer = round(end / affine.scale) + affine.zero_point
        assert -1 <= integer <= 256  # rounding the zero point shifts the ends by half a step at most
        assert affine.scale * (min(max(integer, 0), 255) - affine.zero_point) == pytest.approx(
            end, abs=affine.scale
        )


def pixel_graph(weight: NDArray[np.float32]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "c255"], ["shares"]),
        helper.make_node("Mul", ["shares", "c2"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "c1"], ["centered"]),
        helper.make_node("Pad", ["centered", "border"], ["padded"], mode="reflect"),
        helper.make_node("Conv", ["padded", WEIGHT], ["sums"]),
        helper.make_node("InstanceNormalization", ["sums", "ones", "zeros"], ["y"], epsilon=1e-5),
    ]
    return graph_of(nodes, weight, TensorProto.UINT8)


def test_the_first_convolution_reads_pixels_without_loss() -> None:
    weight = RNG.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    pixels = RNG.integers(0, 256, (1, 3, 8, 9), np.uint8)
    wanted = run(pixel_graph(weight), pixels)
    model = pixel_graph(weight)
    assert not reads_pixels(model, "down1")
    assert pixels_into_convolution(model) == 1
    assert reads_pixels(model, "down1")
    np.testing.assert_allclose(run(model, pixels), wanted, atol=1e-4)
    rounded = pixel_graph(weight)
    rounded_weight, scales = quantized_weight(weight)
    rounded.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(rounded_weight * scales[:, None, None, None], WEIGHT)
    )
    quantize(model, {"down1": PIXELS})
    np.testing.assert_allclose(run(model, pixels), run(rounded, pixels), atol=1e-4)


def test_a_sum_that_no_normalization_follows_keeps_its_constant() -> None:
    model = pixel_graph(np.ones((1, 3, 3, 3), np.float32))
    model.graph.node[-1].op_type = "Relu"
    del model.graph.node[-1].input[1:]
    assert pixels_into_convolution(model) == 0


@pytest.mark.parametrize("ends", [(-1.5, 2.0), (0.0, 2.0)])
def test_signed_integers_cover_the_same_range(ends: tuple[float, float]) -> None:
    model, _, x = convolution()
    x = x.clip(*ends)
    float_result = run(model, x)
    quantize(model, {"down1": Affine.over(*ends)})
    unsigned = run(model, x)
    assert to_signed(model) == 1
    signed = run(model, x)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert tensors["down1.input.zero_point"].dtype == np.int8
    assert tensors["down1.input.zero_point"] == 0
    assert tensors["down1.input.scale"] * 127 == pytest.approx(2.0, rel=0.01)
    errors = [np.square(found - float_result).mean() for found in (unsigned, signed)]
    assert errors[1] < 8 * errors[0]  # half of the integers cost a factor of 4 at most


def test_an_unknown_layer_is_not_passed_over() -> None:
    with pytest.raises(KeyError, match="up9"):
        quantize(convolution()[0], {"up9": PIXELS})
