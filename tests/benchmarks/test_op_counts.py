"""Tests against counts by hand of small graphs, and the formula of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mst_deploy.benchmarks.op_counts import count, input_shapes
from mst_deploy.errors import BundleError
from mst_deploy.model.bundle import Bundle
from mst_deploy.onnx_passes.cpu import film_into_norm
from mst_deploy.onnx_passes.passes import fold_small_constants, to_float32, upsample_into_conv

F32, F16 = TensorProto.FLOAT, TensorProto.FLOAT16


def graph(nodes: list[Any], shape: list[Any], values: dict[str, Any], kind: int = F32) -> onnx.ModelProto:
    """Input x, output y, initializers."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_convolution_with_stride_and_border() -> None:
    """5 x 4 x 3 x 3 weights over 8 x 10, halved to 4 x 5, for two images."""
    model = graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])],
        ["n", 4, "h", "w"],
        {"w": np.zeros((5, 4, 3, 3), np.float32)},
    )
    (cost,) = count(model, {"x": (2, 4, 8, 10)}).costs
    outputs, weights = 2 * 5 * 4 * 5, 5 * 4 * 9
    assert cost.multiply_adds == outputs * 4 * 9
    assert cost.read == 4 * (2 * 4 * 8 * 10 + weights)
    assert cost.written == 4 * outputs


def test_groups_and_transposed_convolutions() -> None:
    depthwise = graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=6)],
        [1, 6, 5, 5],
        {"w": np.zeros((6, 1, 3, 3), np.float32)},
    )
    assert count(depthwise, {"x": (1, 6, 5, 5)}).multiply_adds == 6 * 3 * 3 * 9
    doubled = graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])],
        [1, 6, 5, 5],
        {"w": np.zeros((6, 2, 2, 2), np.float32)},
    )
    assert count(doubled, {"x": (1, 6, 5, 5)}).multiply_adds == 6 * 25 * 2 * 4


def test_matrix_products() -> None:
    product = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [3, 7, 5], {"w": np.zeros((5, 11), np.float32)}
    )
    assert count(product, {"x": (3, 7, 5)}).multiply_adds == 3 * 7 * 5 * 11
    general = graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)], [5, 7], {"w": np.zeros((5, 11), np.float32)}
    )
    assert count(general, {"x": (5, 7)}).multiply_adds == 7 * 5 * 11


def test_bytes_follow_the_type_and_views_are_free() -> None:
    """Cast 4 -> 2 bytes, relu 2 -> 2 bytes over 24 values; the reshape moves nothing."""
    model = graph(
        [
            helper.make_node("Cast", ["x"], ["a"], to=F16),
            helper.make_node("Reshape", ["a", "flat"], ["b"]),
            helper.make_node("Relu", ["b"], ["y"]),
        ],
        [2, 3, 4],
        {"flat": np.array([-1], np.int64)},
    )
    model.graph.output[0].type.tensor_type.elem_type = F16
    work = count(model, {"x": (2, 3, 4)})
    assert [(cost.read, cost.written) for cost in work.costs] == [(96, 48), (0, 0), (48, 48)]
    assert work.bytes == 240
    assert (work.multiply_adds, work.least_bytes) == (0, 0)
    assert work.by_kind() == {"Cast": (0, 144), "Relu": (0, 96), "Reshape": (0, 0)}


def test_sizes_are_followed_through_a_crop() -> None:
    """Doubled to 6 x 8, cut back to the 5 x 7 of another input."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size"], start=2),
        helper.make_node("Resize", ["x", "", "scales"], ["big"], mode="nearest"),
        helper.make_node("Slice", ["big", "zero", "size", "axes"], ["y"]),
    ]
    model = graph(
        nodes,
        ["n", 1, "h", "w"],
        {
            "scales": np.array([1, 1, 2, 2], np.float32),
            "zero": np.zeros(2, np.int64),
            "axes": np.array([2, 3], np.int64),
        },
    )
    work = count(model, {"x": (1, 1, 5, 7)})
    assert work.costs[-1].written == 4 * 5 * 7


def frame(bundle: Bundle, height: int, width: int) -> dict[str, tuple[int, ...]]:
    return input_shapes(bundle.manifest, (1, height, width, 3))


@pytest.mark.parametrize("size", [(64, 96), (512, 512), (720, 1280)])
def test_the_shipped_generator_has_the_arithmetic_of_its_formula(
    bundle: Bundle, size: tuple[int, int]
) -> None:
    """153,792 multiply-adds a pixel: worked out from kernels and channels, counted from the graph.

    The canvas adds, at half resolution, five filters of 5 x 5 after a first one, and 3 x 3 from five bands to
    64 channels; its directions a gradient, five averages at an eighth, and eight lines of four steps.
    """
    canvas = (25 + 5 * 25 + 9 * 5 * 64) / 4
    canvas += (2 * 3 * 81 + 5 * 3 * 25 / 16 + 8 * (49 + 3 * 25) + 2 * 8 + 8 * 8) / 4
    work = count(bundle.generator, frame(bundle, *size))
    assert work.multiply_adds / (size[0] * size[1]) == pytest.approx(153_792 + canvas, rel=0.01)
    assert canvas < 0.01 * 153_792  # of all arithmetic


def test_bytes_of_the_shipped_generators_first_convolution(bundle: Bundle) -> None:
    """Reads the bordered picture (3 channels) and 9 x 9 weights, writes 32 channels, all of two bytes."""
    work = count(bundle.generator, frame(bundle, 64, 96))
    first = next(cost for cost in work.costs if cost.kind == "Conv" and cost.multiply_adds > 3 * 81 * 64 * 96)
    bias = 32
    assert first.read == 2 * (3 * 72 * 104 + 32 * 3 * 81 + bias)
    assert first.written == 2 * 32 * 64 * 96


def test_the_cpus_graph_saves_arithmetic_and_bytes(bundle: Bundle) -> None:
    """Doubled convolutions: 5/9 of 18,432 each; film in the normalization: reads and writes of two passes."""
    model = onnx.load(bundle.generator)
    to_float32(model)
    fold_small_constants(model)
    plain = count(model, frame(bundle, 256, 256))
    film_into_norm(model)
    filmed = count(model, frame(bundle, 256, 256))
    assert filmed.multiply_adds == plain.multiply_adds
    values = sum(
        channels * 256 * 256 // (scale * scale)
        for (_, channels), scale in zip(bundle.manifest.film_layers, [1, 2, *[4] * 11, 2, 1], strict=True)
    )
    assert plain.bytes - filmed.bytes == pytest.approx(4 * 4 * values, rel=0.01)
    upsample_into_conv(model)
    saved = (filmed.multiply_adds - count(model, frame(bundle, 256, 256)).multiply_adds) / 256**2
    assert saved == pytest.approx(2 * 18_432 * 5 / 9, rel=0.02)


def test_what_cannot_be_followed_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="input 'film'"):
        count(bundle.generator, {"frames": (1, 64, 64, 3)})
    model = graph(
        [helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Cast", ["n"], ["y"], to=F32)], [4], {}
    )
    with pytest.raises(BundleError, match="does not follow"):
        count(model, {"x": (4,)})
