"""Tests of the graph for ONNX Runtime's CUDA provider; its nodes run on any provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mst_deploy.backends import model_inputs
from mst_deploy.backends.parity import psnr, run_as_written, sample_picture
from mst_deploy.errors import BundleError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import load_shipped_styles
from mst_deploy.onnx_passes.cuda import for_cuda


def upsamplings(model: onnx.ModelProto) -> int:
    """Count nearest-neighbor upsamplings; bilinear ones belong to the directions of strokes."""
    modes = [
        next((item.s.decode() for item in node.attribute if item.name == "mode"), "nearest")
        for node in model.graph.node
        if node.op_type == "Resize"
    ]
    return modes.count("nearest")


def test_same_picture_as_the_exported_graph(bundle: Bundle) -> None:
    """Float16 rounds in other places, so the pictures are close and not equal."""
    frames = np.stack([sample_picture(57, 83, seed=seed) for seed in (1, 2)])
    films = np.stack([style.film for style in load_shipped_styles()[:2]])
    session = onnxruntime.InferenceSession(for_cuda(bundle.generator), providers=["CPUExecutionProvider"])
    found = session.run(None, model_inputs(bundle.manifest, frames, films))[0]
    assert psnr(found, run_as_written(bundle.generator, frames, films)) > 50


def test_types_are_kept_and_every_film_went_into_its_norm(bundle: Bundle) -> None:
    original, model = onnx.load(bundle.generator), onnx.load_from_string(for_cuda(bundle.generator))
    onnx.checker.check_model(model, full_check=True)
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    assert len(norms) == 15
    assert all(node.output[0].endswith(".filmed") for node in norms)
    types = [{tensor.data_type for tensor in graph.graph.initializer} for graph in (original, model)]
    assert types[0] == types[1]
    assert (upsamplings(original), upsamplings(model)) == (2, 0)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "generator.onnx"
    path.write_bytes(b"\x08\x07garbage")
    with pytest.raises(BundleError, match=r"generator\.onnx"):
        for_cuda(path)
