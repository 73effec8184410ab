"""Tests of the graph for the CPU against the exported one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mst_deploy.backends import model_inputs
from mst_deploy.backends.parity import psnr, run_as_written, run_in_float32, sample_picture
from mst_deploy.errors import BundleError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import load_shipped_styles
from mst_deploy.onnx_passes.cpu import film_into_norm, for_cpu


def run(graph: bytes, inputs: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("size", [(64, 96), (57, 83), (8, 8)])
def test_same_picture_as_the_exported_graph_in_float32(bundle: Bundle, size: tuple[int, int]) -> None:
    """Two images with a style each, so that a mix-up of images and channels would show."""
    frames = np.stack([sample_picture(*size, seed=seed) for seed in (1, 2)])
    films = np.stack([style.film for style in load_shipped_styles()[:2]])
    found = run(for_cpu(bundle.generator), model_inputs(bundle.manifest, frames, films))
    wanted = run_in_float32(bundle.generator, frames, films)
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    assert psnr(found, wanted) > 60


def test_nothing_is_float16_and_every_film_went_into_its_norm(bundle: Bundle) -> None:
    model = onnx.load_from_string(for_cpu(bundle.generator))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    types |= {tensor.data_type for tensor in model.graph.initializer}
    assert TensorProto.FLOAT16 not in types
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    assert len(norms) == 15
    assert all(node.output[0].endswith(".filmed") for node in norms)


def test_the_style_encoder_gives_the_same_vectors(bundle: Bundle) -> None:
    style = {"style": sample_picture(256, 300, seed=4)[None]}
    session = onnxruntime.InferenceSession(bundle.style_encoder, providers=["CPUExecutionProvider"])
    wanted = session.run(["film"], style)[0]
    fast = onnxruntime.InferenceSession(for_cpu(bundle.style_encoder), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(fast.run(["film"], style)[0], wanted, atol=2e-2 * np.abs(wanted).max())


def filmed(**changed: Any) -> onnx.ModelProto:
    """Normalization, scale, shift as exported, with something changed."""
    how = {"ones": 1.0, "zeros": 0.0, "axes": [2, 3], "first": "Mul", **changed}
    nodes = [
        helper.make_node("Unsqueeze", ["gamma", "axes"], ["g"]),
        helper.make_node("Unsqueeze", ["beta", "axes"], ["b"]),
        helper.make_node("InstanceNormalization", ["x", "ones", "zeros"], ["n"], epsilon=1e-5),
        helper.make_node(how["first"], ["n", "g"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    values: dict[str, Any] = {name: np.full(3, how[name], np.float32) for name in ("ones", "zeros")}
    values["axes"] = np.array(how["axes"], np.int64)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 5, 4])]
        + [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("gamma", "beta")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 5, 4])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_film_in_the_norm_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    x, gamma, beta = (rng.normal(1, 2, shape).astype(np.float32) for shape in [(2, 3, 5, 4), (2, 3), (2, 3)])
    model = filmed()
    assert film_into_norm(model) == 1
    found = run(model.SerializeToString(), {"x": x, "gamma": gamma, "beta": beta})
    mean, variance = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    wanted = gamma[:, :, None, None] * (x - mean) / np.sqrt(variance + 1e-5) + beta[:, :, None, None]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("changed", [{"ones": 2.0}, {"zeros": 0.5}, {"axes": [0, 1]}, {"first": "Sub"}])
def test_only_what_is_known_is_replaced(changed: dict[str, Any]) -> None:
    assert film_into_norm(filmed(**changed)) == 0


def test_damaged_graphs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "generator.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match="as ONNX"):
        for_cpu(path)


def test_as_written_keeps_the_rounding_of_float16(bundle: Bundle) -> None:
    """The check at export must see the float16 graph, not the CPU's copy of it."""
    frames = sample_picture(64, 96, seed=1)[None]
    films = load_shipped_styles()[0].film[None]
    written = run_as_written(bundle.generator, frames, films)
    assert psnr(written, run_in_float32(bundle.generator, frames, films)) < 80
