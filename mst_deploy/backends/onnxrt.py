"""ONNX Runtime backend, on the CPU or with its CUDA provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mst_deploy.backends import FilmBatch, Images, Statistics, TimedBackend, enough_memory, model_inputs
from mst_deploy.backends.base import CLOSED
from mst_deploy.environment import cuda_device_name
from mst_deploy.errors import BackendError, BundleError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas
from mst_deploy.onnx_passes.cpu import for_cpu, for_tiles

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxGenerator(TimedBackend):
    """Session of generator.onnx; on a CPU with its weights in float32."""

    def __init__(self, bundle: Bundle, device: str, threads: int = 0) -> None:
        self.manifest = bundle.manifest
        if bundle.manifest.precision == "bf16":
            raise BackendError(
                f"ONNX Runtime cannot compute the bfloat16 graph of {bundle.path}; run it with "
                "[option:backend] trt or [option:backend] pytorch, or export the model with "
                "[option:precision] fp16"
            )
        self.path = bundle.generator
        self.session, self.device = open_fast_session(bundle.generator, device, threads)

    def tiling(self) -> OnnxTiles | None:
        return OnnxTiles(self) if self.manifest.network.get("injection") == "film" else None

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
    """A generator whose normalizations are given their statistics. Sessions are opened when they are used."""

    def __init__(self, generator: OnnxGenerator) -> None:
        self.manifest, self.path, self.device = generator.manifest, generator.path, generator.device
        self.session: onnxruntime.InferenceSession | None = None

    def measure(self, frame: Images, film: FilmBatch, canvas: Canvas | None) -> Statistics:
        graph, names = for_tiles(self.path, measure=True)
        wanted = [output for name in names for output in (name.mean, name.square)]
        session, _ = open_session(graph, self.device, str(self.path), keep_memory=False)
        with enough_memory(frame.shape):
            values = session.run(wanted, model_inputs(self.manifest, frame, film, canvas))
        return dict(zip(wanted, values, strict=True))

    def __call__(
        self, frame: Images, film: FilmBatch, canvas: Canvas | None, statistics: Statistics
    ) -> Images:
        if self.session is None:
            graph, _ = for_tiles(self.path, measure=False)
            self.session, _ = open_session(graph, self.device, str(self.path), keep_memory=False)
        inputs = {**model_inputs(self.manifest, frame, film, canvas), **statistics}
        with enough_memory(frame.shape):
            (stylized,) = self.session.run(["stylized"], inputs)
        return np.asarray(stylized, np.uint8)

    def __enter__(self) -> OnnxTiles:
        return self

    def __exit__(self, *error: object) -> None:
        self.session = None


class OnnxStyleEncoder:
    """Session of style_encoder.onnx."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.manifest = bundle.manifest
        self.session, self.device = open_fast_session(bundle.style_encoder, device)

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        embedding, film = self.session.run(["embedding", "film"], {"style": styles})
        return np.asarray(embedding, np.float32), np.asarray(film, np.float32)


def open_generator(bundle: Bundle, device: str, threads: int = 0) -> OnnxGenerator:
    """Open the generator in a session; 0 threads are as many as the processor has cores. Raises BundleError,
    BackendError."""
    return OnnxGenerator(bundle, device, threads)


def open_style_encoder(bundle: Bundle, device: str) -> OnnxStyleEncoder:
    """Open the style encoder in a session. Raises BundleError, BackendError."""
    return OnnxStyleEncoder(bundle, device)


def gpu_present() -> bool:
    """Return whether the NVIDIA driver is installed and reports a GPU."""
    return cuda_device_name() is not None


def open_fast_session(path: Path, device: str, threads: int = 0) -> tuple[onnxruntime.InferenceSession, str]:
    """Open a session as :func:`open_session`, with the graph optimized for the device."""
    device = choose_device(device)
    graph = for_cpu(path) if device == "cpu" else path
    return open_session(graph, device, name=str(path), threads=threads)


def choose_device(device: str) -> str:
    """Resolve ``auto``: CUDA if a GPU is present and this ONNX Runtime can use it, else the CPU."""
    if device == "auto":
        return "cuda" if _has_cuda_provider() and gpu_present() else "cpu"
    return device


def open_session(
    graph: Path | bytes, device: str, name: str = "", *, keep_memory: bool = True, threads: int = 0
) -> tuple[onnxruntime.InferenceSession, str]:
    """Return a session of the unmodified graph on the requested device, and the device that it really runs
    on.

    ONNX Runtime falls back to the CPU without an error if CUDA cannot be loaded; here that is an error.
    ``keep_memory`` False gives memory back between calls: less of it, a little slower.
    Raises BackendError, or BundleError for a damaged graph, which is called ``name``.
    """
    device = choose_device(device)
    if device == "cuda":
        _prepare_cuda()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; relevant warnings are checked below
    options.enable_cpu_mem_arena = keep_memory
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
