"""Device memory, streams and graphs: the only module that knows pycuda and cuda-bindings.

Everything happens in the device's *primary* context, the one that TensorRT, ONNX Runtime and PyTorch use.
It is retained, never made (``pycuda.autoinit`` would make another, in which TensorRT's pointers mean
nothing), pushed on the calling thread for the time of a call and popped again.
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
        return str(self.device.name())

    @property
    def compute_capability(self) -> str:
        return "{}.{}".format(*self.device.compute_capability())

    @property
    def runtime_version(self) -> str:
        """Of the CUDA runtime, such as 13.0."""
        code, version = runtime.cudaRuntimeGetVersion()
        _check(code)
        return f"{version // 1000}.{version % 1000 // 10}"

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the primary context this thread's, for the block; its errors become BackendError."""
        self.context.push()
        try:
            with readable_errors():
                yield
        finally:
            driver.Context.pop()

    def stream(self) -> Any:
        """A stream; ``handle`` is its number, ``synchronize`` waits for it."""
        return driver.Stream()

    def event(self) -> Any:
        """An event without timing; ``record(stream)``, and ``stream.wait_for_event(event)``."""
        return driver.Event(driver.event_flags.DISABLE_TIMING)

    def allocate(self, count: int) -> Any:
        """``count`` bytes of device memory; ``int()`` of it is the address."""
        return driver.mem_alloc(count)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A host array that copies can run from and to beside kernels."""
        return np.asarray(driver.pagelocked_empty(shape, dtype))

    def to_device(self, target: Any, source: NDArray[Any], stream: Any) -> None:
        """Start copying a pinned array to the device."""
        driver.memcpy_htod_async(target, source, stream)

    def to_host(self, target: NDArray[Any], source: Any, stream: Any) -> None:
        """Start copying device memory to a pinned array."""
        driver.memcpy_dtoh_async(target, source, stream)

    @contextmanager
    def capturing(self, stream: Any, graph: list[Any]) -> Iterator[None]:
        """Record what the block puts onto the stream; appends the executable graph to ``graph``."""
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
        """Put a captured graph onto a stream."""
        _check(runtime.cudaGraphLaunch(graph, stream.handle)[0])

    def forget(self, graph: Any) -> None:
        """Free a captured graph."""
        runtime.cudaGraphExecDestroy(graph)

    def close(self) -> None:
        """Give the primary context back."""
        self.context.detach()


@contextmanager
def readable_errors() -> Iterator[None]:
    """CUDA's errors as BackendError with what to do."""
    try:
        yield
    except driver.Error as error:
        raise as_backend_error(str(error)) from error


def as_backend_error(text: str) -> BackendError:
    """What went wrong on the GPU, in words."""
    if OUT_OF_MEMORY in text.lower():
        return BackendError(
            f"the GPU has too little free memory ({text}); close other programs, choose a smaller "
            "[option:size], or run with [option:backend] onnxrt [option:device] cpu"
        )
    return BackendError(f"the GPU failed: {text}; look at nvidia-smi and the kernel log, then try again")


def _check(code: Any) -> None:
    if int(code) != 0:
        raise as_backend_error(f"{getattr(code, 'name', code)} ({int(code)})")
