"""TensorRT engines out of the cache, behind the contract of all backends.

One session a frame shape: an execution context, one device buffer for the FiLM vector (changing the style
is one small copy), and two slots of frame buffers, so that the copies of one frame overlap the kernels of
another. Nothing is allocated per frame on the device. From the second frame on a captured CUDA graph is
replayed; it is one per slot, because addresses are part of a graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import BackendBase, Batch, FilmBatch, Images, load_backend, model_inputs
from mst_deploy.backends.registry import find_spec
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import (
    Engine,
    Machine,
    Shape,
    cache_folder,
    fitting,
    listed,
    why_not,
)
from mst_deploy.errors import BackendError
from mst_deploy.model.bundle import GENERATOR, Bundle
from mst_deploy.model.canvas import Canvas

SLOTS = 2
TENSORS = ("frames", "film", "stylized")
CANVAS = "canvas"
"""The fourth tensor of a model that paints from a canvas."""
VERSION_COMPATIBLE = "version-compatible"
STRIPPED = "stripped"


def collecting_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps warnings and errors as ASCII text in ``lines``."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.WARNING):
                self.lines.append(msg.encode("ascii", "replace").decode())

        def last_error(self) -> str:
            return self.lines[-1] if self.lines else "TensorRT gave no reason"

    return Log()


def deserialize(trt: Any, logger: Any, cached: Engine, graph: Path) -> tuple[Any, Any]:
    """The runtime and the engine of a cached one; ``graph`` has the weights of a stripped one.

    Raises BackendError when TensorRT refuses it, BundleError when the file is damaged.
    """
    runtime = trt.Runtime(logger)
    flags = cached.identity.flags
    if VERSION_COMPATIBLE in flags:  # such a plan brings its own runtime
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(cached.plan())
    whole = engine is not None and (
        STRIPPED not in flags or compat.refit(trt, logger, engine, graph.read_bytes())
    )
    if not whole:
        raise BackendError(
            f"TensorRT {trt.__version__} refuses the engine {cached.path.name} ({logger.last_error()}); "
            "build it again with [mst build: force]"
        )
    return runtime, engine


def machine(trt: Any, cuda: Any) -> Machine:
    """What engines of this machine are bound to."""
    return Machine(str(trt.__version__), cuda.runtime_version, cuda.name, cuda.compute_capability)


@dataclass
class Slot:
    """Buffers of one frame under way."""

    frames: Any
    stylized: Any
    canvas: Any
    """None for a model without a canvas; so is ``host_canvas``."""
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
        shape: Shape,
        film_size: int,
        *,
        graphs: bool,
        canvas: bool = False,
    ) -> None:
        self.cuda, self.shape, self.graphs = cuda, shape, graphs
        batch, height, width = shape
        self.context = engine.create_execution_context()
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
        if not self.context.set_tensor_address(name, int(buffer)):
            raise BackendError(f"the engine has no tensor {name!r}; build it again with [mst build: force]")

    def set_film(self, films: FilmBatch) -> None:
        """Copy FiLM vectors (N, P) to the device if they changed; frames under way keep theirs."""
        if self.film_known and np.array_equal(films, self.host_film):
            return
        _, compute, _ = self.streams
        compute.synchronize()
        np.copyto(self.host_film, films)
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
        """Put the engine's kernels onto the stream: eagerly first, which warms up, then as a graph."""
        if slot.graph:
            self.cuda.launch(slot.graph[0], stream)
            return
        self.set_address("frames", slot.frames)
        self.set_address("stylized", slot.stylized)
        if slot.canvas is not None:
            self.set_address(CANVAS, slot.canvas)
        if self.graphs and slot.runs > 0:
            with self.cuda.capturing(stream, slot.graph):
                self.enqueue(stream)
            self.cuda.launch(slot.graph[0], stream)
        else:
            self.enqueue(stream)
        slot.runs += 1

    def enqueue(self, stream: Any) -> None:
        if not self.context.execute_async_v3(stream.handle):
            raise BackendError("TensorRT could not start the engine; look at nvidia-smi, then try again")

    def take(self, index: int) -> Images:
        """Wait for the result of a slot -> (N, H, W, 3), the caller's own."""
        slot = self.slots[index]
        slot.returned.synchronize()
        return slot.host_stylized.copy()

    def close(self) -> None:
        """Wait for what is under way and free the graphs; buffers go with the object."""
        for stream in self.streams:
            stream.synchronize()
        for slot in self.slots:
            for graph in slot.graph:
                self.cuda.forget(graph)
            slot.graph.clear()


class TrtGenerator(BackendBase):
    """Runs the engine of the cache that fits the frames; sessions are kept by shape."""

    device = "cuda"

    def __init__(
        self,
        bundle: Bundle,
        trt: Any,
        cuda: Any,
        folder: Path | None = None,
        *,
        graphs: bool = True,
        only: Engine | None = None,
    ) -> None:
        self.manifest, self.trt, self.cuda, self.graphs, self.only = bundle.manifest, trt, cuda, graphs, only
        self.graph = bundle.generator
        self.folder = folder or cache_folder()
        self.machine = machine(trt, cuda)
        self.logger = collecting_logger(trt)
        self.engines: dict[Path, tuple[Any, Any]] = {}
        self.sessions: dict[Shape, Session] = {}

    def __call__(self, frames: Images, films: FilmBatch, canvas: Canvas | None = None) -> Images:
        (stylized,) = self.stream([(frames, films, canvas)])
        return stylized

    def stream(self, batches: Iterable[Batch]) -> Iterator[Images]:
        """Stylized batches in order; copies of one overlap the kernels of the other."""
        waiting: tuple[Session, int] | None = None
        turn = 0
        for batch in batches:
            inputs = model_inputs(self.manifest, *batch)
            frames, films = inputs["frames"], inputs["film"]
            with self.cuda.current():
                session = self.session((len(frames), frames.shape[1], frames.shape[2]))
                session.set_film(films)
                session.submit(turn % SLOTS, frames, inputs.get(CANVAS))
                done = None if waiting is None else waiting[0].take(waiting[1])
            waiting, turn = (session, turn % SLOTS), turn + 1
            if done is not None:
                yield done
        if waiting is not None:
            with self.cuda.current():
                last = waiting[0].take(waiting[1])
            yield last

    def session(self, shape: Shape) -> Session:
        """The session of a frame shape, opened now if need be. Raises BackendError."""
        if shape not in self.sessions:
            engine = self.opened(self.engine_for(shape))
            size = self.manifest.film_size
            self.sessions[shape] = Session(
                self.trt,
                self.cuda,
                engine,
                shape,
                size,
                graphs=self.graphs,
                canvas=bool(self.manifest.canvas_bands),
            )
        return self.sessions[shape]

    def engine_for(self, shape: Shape) -> Engine:
        """The cached engine for a frame shape. Raises BackendError with the command that builds one."""
        graph = self.manifest.files[GENERATOR]
        found = self.only or fitting(self.folder, graph, self.machine, shape)
        if found is not None:
            return found
        batch, height, width = shape
        reasons = [
            f"{engine.path.name} does not fit: {reason}"
            for engine in listed(self.folder)
            if isinstance(engine, Engine)
            and engine.identity.shapes.covers(shape)
            and (reason := why_not(engine, graph, self.machine))
        ]
        raise BackendError(
            f"no TensorRT engine for {width}x{height}"
            + (f" in batches of {batch}" if batch > 1 else "")
            + (f" ({reasons[0]})" if reasons else "")
            + f"; build it with: [mst build: size={width}x{height}{f', batch={batch}' if batch > 1 else ''}]"
        )

    def opened(self, engine: Engine) -> Any:
        """The deserialized engine, its tensors checked."""
        if engine.path not in self.engines:
            pair = deserialize(self.trt, self.logger, engine, self.graph)
            names = {pair[1].get_tensor_name(index) for index in range(pair[1].num_io_tensors)}
            wanted = {*TENSORS, CANVAS} if self.manifest.canvas_bands else {*TENSORS}
            if names != wanted:
                raise BackendError(
                    f"{engine.path} has the tensors {sorted(names)}, expected {sorted(wanted)}; build it "
                    "again with [mst build: force]"
                )
            self.engines[engine.path] = pair
        return self.engines[engine.path][1]

    def close(self) -> None:
        """Free everything in the order TensorRT wants: sessions, engines, the GPU."""
        if self.cuda is None:
            return
        try:
            with self.cuda.current():
                for session in self.sessions.values():
                    session.close()
                self.sessions.clear()
                self.engines.clear()
        finally:
            self.cuda.close()
            self.cuda = None


def open_cuda() -> Any:
    """The first GPU. Raises MissingDependency, BackendError."""
    try:
        from mst_deploy.backends.trt.cuda import Cuda
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        spec = find_spec("trt")
        if missing not in spec.packages:
            raise
        raise spec.missing(missing, "running TensorRT engines") from error
    return Cuda()


def open_generator(bundle: Bundle, device: str) -> TrtGenerator:
    """The engines of the cache. Raises BackendError, MissingDependency."""
    trt = compat.load()
    return TrtGenerator(bundle, trt, open_cuda())


def open_style_encoder(bundle: Bundle, device: str) -> Any:
    """ONNX Runtime's: a style is read once, an engine for it would not pay."""
    return load_backend("onnxrt").open_style_encoder(bundle, "cpu")
