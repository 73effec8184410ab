"""Device memory, streams and graphs: the only module that imports cuda-bindings and pycuda.

pycuda is used where it is installed (it has to be compiled), cuda-bindings, which has wheels, where it is
not; graphs are cuda-bindings' in both cases. Everything happens in the device's *primary* context, the one
that TensorRT, ONNX Runtime and PyTorch use. It is retained, never made (``pycuda.autoinit`` would make
another, in which TensorRT's pointers mean nothing), pushed on the calling thread for the time of a call and
popped again.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np
from cuda.bindings import driver as cu
from numpy.typing import NDArray

from mst_deploy.errors import BackendError

OUT_OF_MEMORY = "out of memory"
NO_DRIVER = "there is no NVIDIA driver here, or it does not answer; check nvidia-smi"


class Cuda:
    """One GPU. Close it when done; every call on its objects must be inside ``current``."""

    def __init__(self, index: int = 0) -> None:
        self.driver = open_driver(index)

    @property
    def name(self) -> str:
        return str(self.driver.name())

    @property
    def compute_capability(self) -> str:
        return "{}.{}".format(*self.driver.compute_capability())

    @property
    def driver_version(self) -> str:
        """Newest CUDA version that the driver supports, such as 13.0.

        The runtime's version is that of the cuda-bindings wheel and says nothing about the machine.
        """
        version = call(cu.cuDriverGetVersion)
        return f"{version // 1000}.{version % 1000 // 10}"

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the primary context this thread's, for the block; its errors become BackendError."""
        self.driver.push()
        try:
            with self.driver.readable_errors():
                yield
        finally:
            self.driver.pop()

    def free_memory(self) -> int:
        """Return the free device memory in bytes; call inside ``current``."""
        return int(call(cu.cuMemGetInfo)[0])

    def stream(self) -> Any:
        """A stream; ``handle`` is its number, ``synchronize`` waits for it."""
        return self.driver.stream()

    def event(self) -> Any:
        """An event without timing; ``record(stream)``, and ``stream.wait_for_event(event)``."""
        return self.driver.event()

    def allocate(self, count: int) -> Any:
        """``count`` bytes of device memory; ``int()`` of it is the address."""
        return self.driver.allocate(count)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A host array that copies can run from and to beside kernels."""
        return np.asarray(self.driver.pinned(shape, dtype))

    def to_device(self, target: Any, source: NDArray[Any], stream: Any) -> None:
        """Start copying a pinned array to the device."""
        self.driver.to_device(target, source, stream)

    def to_host(self, target: NDArray[Any], source: Any, stream: Any) -> None:
        """Start copying device memory to a pinned array."""
        self.driver.to_host(target, source, stream)

    @contextmanager
    def capturing(self, stream: Any, graph: list[Any]) -> Iterator[None]:
        """Record what the block puts onto the stream; appends the executable graph to ``graph``."""
        mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call(cu.cuStreamBeginCapture, stream.handle, mode)
        try:
            yield
        except BaseException:
            code, captured = cu.cuStreamEndCapture(stream.handle)
            if int(code) == 0:
                cu.cuGraphDestroy(captured)
            raise
        captured = call(cu.cuStreamEndCapture, stream.handle)
        code, executable = cu.cuGraphInstantiate(captured, 0)
        cu.cuGraphDestroy(captured)
        check(code)
        graph.append(executable)

    def launch(self, graph: Any, stream: Any) -> None:
        """Put a captured graph onto a stream."""
        call(cu.cuGraphLaunch, graph, stream.handle)

    def forget(self, graph: Any) -> None:
        """Free a captured graph."""
        cu.cuGraphExecDestroy(graph)

    def close(self) -> None:
        """Give the primary context back."""
        self.driver.close()


def open_driver(index: int) -> Any:
    """Open the GPU with pycuda if it can be imported, else with cuda-bindings. Raises BackendError."""
    try:
        pycuda = import_module("pycuda.driver")
    except ImportError:  # not installed, or its libcuda is missing: cuda-bindings says that in words
        return BindingsDriver(index)
    with pycuda_errors(pycuda):
        return PycudaDriver(pycuda, index)


class PycudaDriver:
    """Implementation with pycuda; its objects are returned as they are."""

    def __init__(self, pycuda: Any, index: int) -> None:
        self.pycuda = pycuda
        pycuda.init()
        require_gpu(index, pycuda.Device.count())
        self.device = pycuda.Device(index)
        self.context = self.device.retain_primary_context()

    def readable_errors(self) -> AbstractContextManager[None]:
        return pycuda_errors(self.pycuda)

    def name(self) -> str:
        return str(self.device.name())

    def compute_capability(self) -> tuple[int, int]:
        major, minor = self.device.compute_capability()
        return int(major), int(minor)

    def push(self) -> None:
        self.context.push()

    def pop(self) -> None:
        self.pycuda.Context.pop()

    def stream(self) -> Any:
        return self.pycuda.Stream()

    def event(self) -> Any:
        return self.pycuda.Event(self.pycuda.event_flags.DISABLE_TIMING)

    def allocate(self, count: int) -> Any:
        return self.pycuda.mem_alloc(count)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.pycuda.pagelocked_empty(shape, dtype)

    def to_device(self, target: Any, source: NDArray[Any], stream: Any) -> None:
        self.pycuda.memcpy_htod_async(target, source, stream)

    def to_host(self, target: NDArray[Any], source: Any, stream: Any) -> None:
        self.pycuda.memcpy_dtoh_async(target, source, stream)

    def close(self) -> None:
        self.context.detach()


class BindingsDriver:
    """Implementation with cuda-bindings, whose handles have to be freed explicitly."""

    def __init__(self, index: int) -> None:
        call(cu.cuInit, 0)
        require_gpu(index, call(cu.cuDeviceGetCount))
        self.device = call(cu.cuDeviceGet, index)
        self.context = Context(call(cu.cuDevicePrimaryCtxRetain, self.device))

    def readable_errors(self) -> AbstractContextManager[None]:
        return nullcontext()  # ``call`` raises readable ones

    def name(self) -> str:
        return (
            bytes(call(cu.cuDeviceGetName, 256, self.device)).partition(b"\0")[0].decode("utf-8", "replace")
        )

    def compute_capability(self) -> tuple[int, int]:
        names = cu.CUdevice_attribute
        major, minor = (
            call(cu.cuDeviceGetAttribute, attribute, self.device)
            for attribute in (
                names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        return int(major), int(minor)

    def push(self) -> None:
        call(cu.cuCtxPushCurrent, self.context.handle)

    def pop(self) -> None:
        call(cu.cuCtxPopCurrent)

    def stream(self) -> Stream:
        return Stream(self.context)

    def event(self) -> Event:
        return Event(self.context)

    def allocate(self, count: int) -> Memory:
        return Memory(self.context, count)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        count = math.prod(shape) * np.dtype(dtype).itemsize
        address = int(call(cu.cuMemHostAlloc, max(1, count), 0))
        block = (ctypes.c_ubyte * count).from_address(address)
        self.context.free_with(block, cu.cuMemFreeHost, address)
        array: NDArray[Any] = np.frombuffer(block, np.uint8).view(dtype).reshape(shape)
        return array  # refers to the block

    def to_device(self, target: Any, source: NDArray[Any], stream: Any) -> None:
        call(cu.cuMemcpyHtoDAsync, int(target), source.ctypes.data, source.nbytes, stream.handle)

    def to_host(self, target: NDArray[Any], source: Any, stream: Any) -> None:
        call(cu.cuMemcpyDtoHAsync, target.ctypes.data, int(source), target.nbytes, stream.handle)

    def close(self) -> None:
        if self.context.handle is not None:
            self.context.handle = None
            call(cu.cuDevicePrimaryCtxRelease, self.device)


class Context:
    """A retained primary context that frees what was created in it."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        """None after the context was released, which frees everything in it."""

    def free_with(self, owner: Any, free: Callable[[Any], Any], handle: Any) -> None:
        """Free a handle when its owner is garbage collected, in this context and without raising."""
        weakref.finalize(owner, self._free, free, handle).atexit = False

    def _free(self, free: Callable[[Any], Any], handle: Any) -> None:
        if self.handle is not None and int(cu.cuCtxPushCurrent(self.handle)[0]) == 0:
            free(handle)
            cu.cuCtxPopCurrent()


class Stream:
    """A CUDA stream."""

    def __init__(self, context: Context) -> None:
        flags = cu.CUstream_flags.CU_STREAM_DEFAULT
        self.handle = int(call(cu.cuStreamCreate, int(flags)))
        context.free_with(self, cu.cuStreamDestroy, self.handle)

    def synchronize(self) -> None:
        call(cu.cuStreamSynchronize, self.handle)

    def wait_for_event(self, event: Event) -> None:
        call(cu.cuStreamWaitEvent, self.handle, event.handle, 0)


class Event:
    """A CUDA event without timing."""

    def __init__(self, context: Context) -> None:
        flags = cu.CUevent_flags.CU_EVENT_DISABLE_TIMING
        self.handle = int(call(cu.cuEventCreate, int(flags)))
        context.free_with(self, cu.cuEventDestroy, self.handle)

    def record(self, stream: Stream) -> None:
        call(cu.cuEventRecord, self.handle, stream.handle)

    def synchronize(self) -> None:
        call(cu.cuEventSynchronize, self.handle)


class Memory:
    """Device memory; ``int()`` of it is its address."""

    def __init__(self, context: Context, count: int) -> None:
        self.address = int(call(cu.cuMemAlloc, count))
        context.free_with(self, cu.cuMemFree, self.address)

    def __int__(self) -> int:
        return self.address


def require_gpu(index: int, count: int) -> None:
    """Raise BackendError unless ``index`` is less than the number of GPUs."""
    if index >= count:
        raise BackendError(f"there is no GPU {index}; run with [option:device] cpu")


@contextmanager
def pycuda_errors(pycuda: Any) -> Iterator[None]:
    """Convert pycuda's errors to BackendError."""
    try:
        yield
    except pycuda.Error as error:
        raise as_backend_error(str(error)) from error


def as_backend_error(text: str) -> BackendError:
    """What went wrong on the GPU, in words."""
    if OUT_OF_MEMORY in text.lower().replace("_", " "):
        return BackendError(
            f"the GPU has too little free memory ({text}); close other programs, choose a smaller "
            "[option:size], or run with [option:backend] onnxrt [option:device] cpu"
        )
    return BackendError(f"the GPU failed: {text}; check nvidia-smi and the kernel log, then try again")


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of cuda-bindings; return its values after the error code: one value, or a list.

    Raises BackendError for error codes, and if there is no driver.
    """
    try:
        code, *values = function(*arguments)
    except RuntimeError as error:  # the driver's library or a function of it was not found
        raise BackendError(NO_DRIVER) from error
    check(code)
    return values[0] if len(values) == 1 else values


def check(code: Any) -> None:
    """Raise BackendError for an error code."""
    if int(code) in (int(cu.CUresult.CUDA_ERROR_NO_DEVICE), int(cu.CUresult.CUDA_ERROR_STUB_LIBRARY)):
        raise BackendError(f"{NO_DRIVER} ({code.name})")
    if int(code) != 0:
        raise as_backend_error(f"{getattr(code, 'name', code)} ({int(code)})")
