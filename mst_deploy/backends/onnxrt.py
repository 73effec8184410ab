"""ONNX Runtime backend, on the CPU or with its CUDA provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mst_deploy.backends import FilmBatch, Images, StageRunner, TimedBackend, model_inputs
from mst_deploy.backends.base import CLOSED
from mst_deploy.environment import cuda_device_name
from mst_deploy.errors import BackendError, BundleError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas
from mst_deploy.onnx_passes.cpu import for_cpu, for_tiles
from mst_deploy.onnx_passes.cuda import for_cuda
from mst_deploy.onnx_passes.stage import Stage

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxGenerator(TimedBackend):
    """Session of generator.onnx, on a CPU with its weights in float32; or of generator_int8.onnx."""

    def __init__(self, bundle: Bundle, device: str, precision: str = "", threads: int = 0) -> None:
        self.manifest, self.precision = bundle.manifest, precision
        if precision == "int8":
            if choose_device(device) != "cpu":
                raise BackendError("onnxrt:int8 computes on the CPU only; add [option:device] cpu")
            self.path = bundle.generator_int8
            self.session, self.device = open_fast_session(self.path, "cpu", threads)
            return
        if bundle.manifest.precision == "bf16":
            raise BackendError(
                f"ONNX Runtime cannot compute the bfloat16 graph of {bundle.path}; run it with "
                "[option:backend] trt or [option:backend] pytorch, or export the model with "
                "[option:precision] fp16"
            )
        self.path = bundle.generator
        self.session, self.device = open_fast_session(bundle.generator, device, threads)

    def tiling(self) -> OnnxTiles | None:
        film = self.manifest.network.get("injection") == "film"
        return OnnxTiles(self) if film and not self.precision else None

    def prepare(
        self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None
    ) -> dict[str, NDArray[Any]]:
        return model_inputs(self.manifest, frames, film_params, canvas)

    def compute(self, prepared: dict[str, NDArray[Any]]) -> Any:
        """Run the session; on CUDA this includes the copies to the device and back."""
        (stylized,) = self.session.run(["stylized"], prepared)
        return stylized

    def finish(self, computed: Any) -> Images:
        return np.asarray(computed, np.uint8)

    def close(self) -> None:
        self.session = CLOSED


class OnnxTiles:
    """The generator in stages, each in a session of its own."""

    def __init__(self, generator: OnnxGenerator) -> None:
        self.manifest, self.path, self.device = generator.manifest, generator.path, generator.device

    def stages(self) -> list[Stage]:
        return for_tiles(self.path, self.manifest.canvas_bands)

    def open(self, stage: Stage) -> StageRunner:
        session, _ = open_session(stage.graph, self.device, str(self.path))

        def run(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return dict(zip(stage.outputs, session.run(list(stage.outputs), inputs), strict=True))

        return run


class OnnxStyleEncoder:
    """Session of style_encoder.onnx."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.manifest = bundle.manifest
        self.session, self.device = open_fast_session(bundle.style_encoder, device)

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        embedding, film = self.session.run(["embedding", "film"], {"style": styles})
        return np.asarray(embedding, np.float32), np.asarray(film, np.float32)


def open_generator(bundle: Bundle, device: str, precision: str = "", threads: int = 0) -> OnnxGenerator:
    """Open the generator in a session; 0 threads are as many as the processor has cores. Raises BundleError,
    BackendError."""
    return OnnxGenerator(bundle, device, precision, threads)


def open_style_encoder(bundle: Bundle, device: str, precision: str = "") -> OnnxStyleEncoder:
    """Open the style encoder in a session. Raises BundleError, BackendError."""
    return OnnxStyleEncoder(bundle, device)


def gpu_present() -> bool:
    """Return whether the NVIDIA driver is installed and reports a GPU."""
    return cuda_device_name() is not None


def open_fast_session(path: Path, device: str, threads: int = 0) -> tuple[onnxruntime.InferenceSession, str]:
    """Open a session as :func:`open_session`, with the graph optimized for the device."""
    device = choose_device(device)
    graph = for_cpu(path) if device == "cpu" else for_cuda(path)
    return open_session(graph, device, name=str(path), threads=threads)


def choose_device(device: str) -> str:
    """Resolve ``auto``: CUDA if a GPU is present and this ONNX Runtime can use it, else the CPU."""
    if device == "auto":
        return "cuda" if _has_cuda_provider() and gpu_present() else "cpu"
    return device


def open_session(
    graph: Path | bytes, device: str, name: str = "", *, threads: int = 0
) -> tuple[onnxruntime.InferenceSession, str]:
    """Return a session of the unmodified graph on the requested device, and the device that it really runs
    on.

    ONNX Runtime falls back to the CPU without an error if CUDA cannot be loaded; here that is an error.
    Raises BackendError, or BundleError for a damaged graph, which is called ``name``.
    """
    device = choose_device(device)
    if device == "cuda":
        _prepare_cuda()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well; relevant warnings are checked below
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=[PROVIDERS[device]])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise BundleError(f"ONNX Runtime cannot load {name or graph!s}: {error}") from error
    actual = session.get_providers()[0]
    if actual != PROVIDERS[device]:
        raise BackendError(
            f"asked ONNX Runtime for {PROVIDERS[device]}, got {actual}: CUDA or cuDNN could not be "
            "loaded; run with [option:device] cpu, or install them with: pip install 'mst-deploy[cuda]'"
        )
    return session, device


def _has_cuda_provider() -> bool:
    return PROVIDERS["cuda"] in onnxruntime.get_available_providers()


def _prepare_cuda() -> None:
    """Load CUDA and cuDNN from their wheels, if installed. Raises BackendError without CUDA provider or
    GPU."""
    if not _has_cuda_provider():
        raise BackendError(
            "this ONNX Runtime has no CUDA provider; run with [option:device] cpu, or replace it with: "
            "pip install onnxruntime-gpu"
        )
    if not gpu_present():
        raise BackendError(
            "no NVIDIA GPU answers on this machine (the driver is missing or sees no device); "
            "run with [option:device] cpu"
        )
    onnxruntime.preload_dlls()
