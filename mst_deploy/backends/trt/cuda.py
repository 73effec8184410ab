"""Device memory, streams and graphs: the only module that imports pycuda and cuda-bindings.

All calls use the device's *primary* context, as TensorRT, ONNX Runtime and PyTorch do. It is retained, never
created (``pycuda.autoinit`` would create another, in which TensorRT's pointers are invalid), pushed on the
calling thread for the time of a call and popped again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda.driver as driver
from cuda.bindings import runtime
from numpy.typing import NDArray

from mst_deploy.errors import BackendError

OUT_OF_MEMORY = "out of memory"


class Cuda:
    """One GPU. Close it when done; every call on its objects must be inside ``current``."""

    def __init__(self, index: int = 0) -> None:
        with readable_errors():
            driver.init()
            if index >= driver.Device.count():
                raise BackendError(f"there is no GPU {index}; run with [option:device] cpu")
            self.device = driver.Device(index)
            self.context = self.device.retain_primary_context()

    @property
    def name(self) -> str:
        """Name of the GPU."""
        return str(self.device.name())

    @property
    def compute_capability(self) -> str:
        """Compute capability, such as 9.0."""
        return "{}.{}".format(*self.device.compute_capability())

    @property
    def runtime_version(self) -> str:
        """Version of the CUDA runtime, such as 13.0."""
        code, version = runtime.cudaRuntimeGetVersion()
        _check(code)
        return f"{version // 1000}.{version % 1000 // 10}"

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the primary context current on this thread for the block; CUDA errors become BackendError."""
        self.context.push()
        try:
            with readable_errors():
                yield
        finally:
            driver.Context.pop()

    def stream(self) -> Any:
        """Create a stream; ``handle`` is its number, ``synchronize`` waits for it."""
        return driver.Stream()

    def event(self) -> Any:
        """Create an event without timing; ``record(stream)``, and ``stream.wait_for_event(event)``."""
        return driver.Event(driver.event_flags.DISABLE_TIMING)

    def allocate(self, count: int) -> Any:
        """Allocate ``count`` bytes of device memory; ``int()`` of the result is the address."""
        return driver.mem_alloc(count)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Allocate a pinned host array, whose copies can overlap with kernels."""
        return np.asarray(driver.pagelocked_empty(shape, dtype))

    def to_device(self, target: Any, source: NDArray[Any], stream: Any) -> None:
        """Start copying a pinned array to the device."""
        driver.memcpy_htod_async(target, source, stream)

    def to_host(self, target: NDArray[Any], source: Any, stream: Any) -> None:
        """Start copying device memory to a pinned array."""
        driver.memcpy_dtoh_async(target, source, stream)

    @contextmanager
    def capturing(self, stream: Any, graph: list[Any]) -> Iterator[None]:
        """Capture the work that the block submits to the stream; append the executable graph to ``graph``."""
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _check(runtime.cudaStreamBeginCapture(stream.handle, mode)[0])
        try:
            yield
        finally:
            code, captured = runtime.cudaStreamEndCapture(stream.handle)
        _check(code)
        code, executable = runtime.cudaGraphInstantiate(captured, 0)
        runtime.cudaGraphDestroy(captured)
        _check(code)
        graph.append(executable)

    def launch(self, graph: Any, stream: Any) -> None:
        """Launch a captured graph on a stream."""
        _check(runtime.cudaGraphLaunch(graph, stream.handle)[0])

    def forget(self, graph: Any) -> None:
        """Free a captured graph."""
        runtime.cudaGraphExecDestroy(graph)

    def close(self) -> None:
        """Release the primary context."""
        self.context.detach()


@contextmanager
def readable_errors() -> Iterator[None]:
    """Raise CUDA errors in the block as BackendError with a remedy."""
    try:
        yield
    except driver.Error as error:
        raise as_backend_error(str(error)) from error


def as_backend_error(text: str) -> BackendError:
    """Return the BackendError of a GPU error."""
    if OUT_OF_MEMORY in text.lower():
        return BackendError(
            f"the GPU has too little free memory ({text}); close other programs, choose a smaller "
            "[option:size], or run with [option:backend] onnxrt [option:device] cpu"
        )
    return BackendError(f"the GPU failed: {text}; look at nvidia-smi and the kernel log, then try again")


def _check(code: Any) -> None:
    if int(code) != 0:
        raise as_backend_error(f"{getattr(code, 'name', code)} ({int(code)})")
