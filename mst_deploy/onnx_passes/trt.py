"""Conversion of the generator's ONNX graph for every supported TensorRT."""

from __future__ import annotations

from pathlib import Path

import onnx

from mst_deploy.onnx_passes.int8 import to_signed
from mst_deploy.onnx_passes.passes import (
    cast_at_io,
    fold_small_constants,
    read_graph,
    to_opset17,
    upsample_into_conv,
)

OPSET_17_MAJORS = (8,)
"""Major versions of TensorRT whose parser supports opset 17 at most."""


def for_tensorrt(path: Path, major: int, *, rewrite: bool = True) -> bytes:
    """Return the serialized graph for TensorRT ``major``. Raises BundleError.

    Casts are moved next to the inputs and outputs; with ``rewrite``, doubling and convolution are fused (see
    ``mst_deploy.onnx_passes.passes``); integers of a graph in 8 bits get signs; for 8.6 the opset is lowered.
    """
    model = read_graph(path)
    fold_small_constants(model)
    cast_at_io(model)
    to_signed(model)
    if rewrite:
        upsample_into_conv(model)
    if major in OPSET_17_MAJORS:
        to_opset17(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
