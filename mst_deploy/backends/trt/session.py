"""One TensorRT engine at one frame shape.

A session has an execution context, one device buffer for the FiLM vector (changing the style is one small
copy), and two slots of frame buffers, so that the copies of one frame overlap the kernels of another. No
device memory is allocated per frame. From the second frame on a captured CUDA graph is replayed; there is one
per slot, because addresses are part of a graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import FilmBatch, Images
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import Shape
from mst_deploy.errors import BackendError
from mst_deploy.model.canvas import Canvas

SLOTS = 2
TENSORS = ("frames", "film", "stylized")
CANVAS = "canvas"
"""The fourth tensor of a model that paints from a canvas."""


@dataclass
class Slot:
    """Buffers of one frame in flight."""

    frames: Any
    stylized: Any
    canvas: Any
    """None for a model without a canvas, as is ``host_canvas``."""
    host_canvas: NDArray[np.uint8] | None
    host_frames: NDArray[np.uint8]
    host_stylized: NDArray[np.uint8]
    arrived: Any
    computed: Any
    returned: Any
    graph: list[Any] = field(default_factory=list)
    runs: int = 0


class Session:
    """One engine at one frame shape. Every method must be called inside ``cuda.current()``."""

    def __init__(
        self,
        trt: Any,
        cuda: Any,
        engine: Any,
        config: Any,
        shape: Shape,
        film_size: int,
        *,
        graphs: bool,
        canvas: bool = False,
    ) -> None:
        self.trt, self.cuda, self.shape, self.graphs = trt, cuda, shape, graphs
        batch, height, width = shape
        self.context = compat.create_context(engine, config)
        if self.context is None:
            raise BackendError(
                f"no execution context for {width}x{height}: it takes "
                f"{compat.device_memory(trt, engine) / 2**20:.0f} MiB of GPU memory; choose a smaller "
                "[option:size], or close other programs"
            )
        pixels = (batch, height, width, 3)
        noise = (batch, height, width, 1)
        inputs: list[tuple[str, tuple[int, ...]]] = [("frames", pixels), ("film", (batch, film_size))]
        for name, dims in inputs + [(CANVAS, noise)] * canvas:
            if not self.context.set_input_shape(name, dims):
                raise BackendError(f"the engine does not take {name} of shape {dims}; build one that does")
        self.streams = [cuda.stream() for _ in range(3)]  # in, compute, out
        count = batch * height * width * 3
        self.slots = [
            Slot(
                cuda.allocate(count),
                cuda.allocate(count),
                cuda.allocate(count // 3) if canvas else None,
                cuda.pinned(noise, np.uint8) if canvas else None,
                cuda.pinned(pixels, np.uint8),
                cuda.pinned(pixels, np.uint8),
                cuda.event(),
                cuda.event(),
                cuda.event(),
            )
            for _ in range(SLOTS)
        ]
        self.film = cuda.allocate(batch * film_size * 4)
        self.host_film = cuda.pinned((batch, film_size), np.float32)
        self.film_known = False
        self.set_address("film", self.film)

    def set_address(self, name: str, buffer: Any) -> None:
        """Bind a buffer to a tensor of the engine. Raises BackendError for an unknown tensor."""
        if not self.context.set_tensor_address(name, int(buffer)):
            raise BackendError(f"the engine has no tensor {name!r}; build it again with [mst build: force]")

    def set_film(self, film_params: FilmBatch) -> None:
        """Copy FiLM vectors (N, P) to the device if they changed; frames in flight keep theirs."""
        if self.film_known and np.array_equal(film_params, self.host_film):
            return
        _, compute, _ = self.streams
        compute.synchronize()
        np.copyto(self.host_film, film_params)
        self.cuda.to_device(self.film, self.host_film, compute)
        self.film_known = True

    def submit(self, index: int, frames: Images, canvas: Canvas | None = None) -> None:
        """Start stylizing frames (N, H, W, 3) in slot ``index``, whose last result must have been taken."""
        slot = self.slots[index]
        copy_in, compute, copy_out = self.streams
        np.copyto(slot.host_frames, frames)
        self.cuda.to_device(slot.frames, slot.host_frames, copy_in)
        if canvas is not None and slot.host_canvas is not None:
            np.copyto(slot.host_canvas, canvas)
            self.cuda.to_device(slot.canvas, slot.host_canvas, copy_in)
        slot.arrived.record(copy_in)
        compute.wait_for_event(slot.arrived)
        self.run(slot, compute)
        slot.computed.record(compute)
        copy_out.wait_for_event(slot.computed)
        self.cuda.to_host(slot.host_stylized, slot.stylized, copy_out)
        slot.returned.record(copy_out)

    def run(self, slot: Slot, stream: Any) -> None:
        """Enqueue the engine's kernels: eagerly first, as warm-up, then as a graph."""
        if slot.graph:
            self.cuda.launch(slot.graph[0], stream)
            return
        self.set_address("frames", slot.frames)
        self.set_address("stylized", slot.stylized)
        if slot.canvas is not None:
            self.set_address(CANVAS, slot.canvas)
        if self.graphs and slot.runs > 0 and compat.can_capture(self.trt, self.context, stream.handle):
            with self.cuda.capturing(stream, slot.graph):
                self.enqueue(stream)
            self.cuda.launch(slot.graph[0], stream)
        else:
            self.enqueue(stream)
        slot.runs += 1

    def enqueue(self, stream: Any) -> None:
        """Enqueue the engine's kernels on the stream. Raises BackendError."""
        if not self.context.execute_async_v3(stream.handle):
            raise BackendError("TensorRT could not start the engine; check nvidia-smi, then try again")

    def take(self, index: int) -> Images:
        """Wait for the result of a slot; return a copy, (N, H, W, 3) uint8."""
        slot = self.slots[index]
        slot.returned.synchronize()
        return slot.host_stylized.copy()

    def close(self) -> None:
        """Wait for frames in flight and free the graphs; buffers are freed with the object."""
        for stream in self.streams:
            stream.synchronize()
        for slot in self.slots:
            for graph in slot.graph:
                self.cuda.forget(graph)
            slot.graph.clear()
