"""OpenVINO backend on the CPU: in float32, in bfloat16 if the processor supports it, or in 8-bit integers.

A network is compiled for each frame shape: with symbolic sizes OpenVINO plans its memory again for every
frame. The last few shapes are cached.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from mst_deploy.backends import FilmBatch, Images, StageRunner, TimedBackend, model_inputs
from mst_deploy.backends.base import CLOSED
from mst_deploy.errors import BackendError, BundleError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas
from mst_deploy.onnx_passes.stage import Stage

SHAPES = 4
"""Number of cached compiled networks; each holds its own copy of the maps of a frame."""
BFLOAT16 = "BF16"
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Names of the precisions in OpenVINO; for int8 that of everything between the convolutions."""


class Compiled:
    """A graph, from a file or serialized, compiled for each shape that it is called with."""

    def __init__(
        self, graph: Path | bytes, precision: str, name: str = "", *, threads: int = 0, shapes: int = SHAPES
    ) -> None:
        self.core, self.shapes = openvino.Core(), shapes
        if precision == "bf16" and BFLOAT16 not in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError(
                "this processor has no bfloat16 arithmetic (AVX512-BF16 or AMX), with which openvino:bf16 "
                "computes; use [option:backend] openvino, which computes in float32"
            )
        self.options = {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            self.options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self.model = self.core.read_model(graph)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load {name or graph!s}: {error}") from error
        self.known: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()

    def __call__(self, inputs: dict[str, NDArray[Any]]) -> Any:
        """Return the outputs by name; they are overwritten by the next call of the same shape."""
        return self._request(inputs).infer(inputs, share_inputs=True, share_outputs=True)

    def _request(self, inputs: dict[str, NDArray[Any]]) -> Any:
        shapes = tuple(value.shape for value in inputs.values())
        if shapes not in self.known:
            while len(self.known) >= self.shapes:
                self.known.popitem(last=False)  # before another one takes memory
            model = self.model.clone()
            model.reshape({name: openvino.PartialShape(value.shape) for name, value in inputs.items()})
            compiled = self.core.compile_model(model, "CPU", self.options)
            self.known[shapes] = compiled.create_infer_request()
        self.known.move_to_end(shapes)
        return self.known[shapes]


class OpenVinoGenerator(TimedBackend):
    """generator.onnx or generator_int8.onnx, compiled by OpenVINO."""

    device = "cpu"

    def __init__(self, bundle: Bundle, precision: str, threads: int) -> None:
        self.manifest, self.precision = bundle.manifest, precision
        self.path = bundle.generator
        graph = bundle.generator_int8 if precision == "int8" else bundle.generator
        self.compiled = Compiled(graph, precision, threads=threads)

    def tiling(self) -> OpenVinoTiles | None:
        return OpenVinoTiles(self) if self.manifest.network.get("injection") == "film" else None

    def prepare(
        self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None
    ) -> dict[str, NDArray[Any]]:
        return model_inputs(self.manifest, frames, film_params, canvas)

    def compute(self, prepared: dict[str, NDArray[Any]]) -> Any:
        return self.compiled(prepared)["stylized"]

    def finish(self, computed: Any) -> Images:
        return np.array(computed, np.uint8)

    def close(self) -> None:
        self.compiled = CLOSED


class OpenVinoTiles:
    """The generator in stages; always in float32, because they hand on statistics of whole pictures."""

    def __init__(self, generator: OpenVinoGenerator) -> None:
        self.manifest, self.path = generator.manifest, generator.path

    def stages(self) -> list[Stage]:
        from mst_deploy.onnx_passes.cpu import for_tiles  # frames need no onnx

        return for_tiles(self.path, self.manifest.canvas_bands)

    def open(self, stage: Stage) -> StageRunner:
        compiled = Compiled(stage.graph, "fp32", str(self.path), shapes=1)

        def run(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            outputs = compiled(inputs)
            return {name: outputs[name] for name in stage.outputs}

        return run


class OpenVinoStyleEncoder:
    """style_encoder.onnx, compiled by OpenVINO; always in float32, because a style is encoded only once."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.compiled = Compiled(bundle.style_encoder, "fp32")

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        outputs = self.compiled({"style": np.ascontiguousarray(styles)})
        return np.array(outputs["embedding"], np.float32), np.array(outputs["film"], np.float32)


def open_generator(
    bundle: Bundle, device: str, precision: str = "fp32", threads: int = 0
) -> OpenVinoGenerator:
    return OpenVinoGenerator(bundle, precision, threads)


def open_style_encoder(bundle: Bundle, device: str, precision: str = "fp32") -> OpenVinoStyleEncoder:
    return OpenVinoStyleEncoder(bundle)
