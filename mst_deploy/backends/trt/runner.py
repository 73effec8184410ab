"""TensorRT backend: runs engines of the cache.

One session per frame shape: an execution context, one device buffer for the FiLM vector (changing the style
is one small copy), and two slots of frame buffers, so that the copies of one frame overlap the kernels of
another. No device memory is allocated per frame. From the second frame on a captured CUDA graph is replayed;
there is one per slot, because addresses are part of a graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mst_deploy.backends import BackendBase, Batch, FilmBatch, Images, load_backend, model_inputs
from mst_deploy.backends.registry import find_spec
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import (
    Engine,
    Gpu,
    Machine,
    Shape,
    cache_folder,
    find_engine,
    listed,
    lock_file,
    read_checked,
    read_header,
    remove,
    runtime_cache_file,
    why_not,
    with_verification,
    write_checked,
)
from mst_deploy.backends.trt.flags import STRIPPED, VERSION_COMPATIBLE
from mst_deploy.backends.trt.verify import film_params_for, verification_now, verify
from mst_deploy.errors import (
    BackendError,
    OutputError,
    VerificationError,
)
from mst_deploy.model.bundle import GENERATOR, Bundle
from mst_deploy.model.canvas import Canvas

SLOTS = 2
TENSORS = ("frames", "film", "stylized")
CANVAS = "canvas"
"""The fourth tensor of a model that paints from a canvas."""
DETAILS = ("Layers:", "Total Activation Memory:")
"""Beginnings of the messages in which TensorRT for RTX describes an engine during the build."""


def collecting_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps warnings and errors as ASCII text in ``lines``.

    ``reason`` is the first error since the last ``forget``: later ones follow from it. ``details`` are the
    builder's messages about layers and memory of an engine.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []
            self.details: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            level, names = int(severity), trt.ILogger.Severity
            if level <= int(names.WARNING):
                self.lines.append(msg.encode("ascii", "replace").decode())
            if level <= int(names.ERROR):
                self.errors.append(self.lines[-1])
            elif msg.startswith(DETAILS):
                self.details.append(msg)

        def forget(self) -> None:
            self.errors.clear()

        def reason(self) -> str:
            reported = [line for line in self.errors if compat.NO_DRIVER not in line]
            if reported:
                return " ".join(reported[0].split())
            if self.errors:
                return "there is no NVIDIA driver here, or it is older than this TensorRT needs"
            return " ".join(self.lines[-1].split()) if self.lines else "TensorRT gave no reason"

    return Log()


def deserialize(trt: Any, logger: Any, cached: Engine, graph: Path) -> tuple[Any, Any]:
    """Return the runtime and the engine of a cached plan; ``graph`` has the weights of a stripped one.

    Raises BackendError if TensorRT refuses it, BundleError if the file is damaged.
    """
    logger.forget()
    runtime, plan = trt.Runtime(logger), cached.plan()
    flags = cached.identity.flags
    if VERSION_COMPATIBLE in flags:  # such a plan includes its own runtime
        runtime.engine_host_code_allowed = True
    refusal = compat.refusal(trt, runtime, plan)
    engine = None if refusal else runtime.deserialize_cuda_engine(plan)
    whole = engine is not None and (
        STRIPPED not in flags or compat.refit(trt, logger, engine, graph.read_bytes())
    )
    if not whole:
        raise BackendError(
            f"{compat.product(trt)} refuses the engine {cached.path.name} ({refusal or logger.reason()}); "
            "look at mst doctor, and build the engine again with [mst build: force]"
        )
    return runtime, engine


def machine(runtimes: Sequence[Any], cuda: Any) -> Machine:
    """Return the versions of the flavors and the GPU; ``cuda`` is None if there is no GPU."""
    return Machine(
        {compat.flavor_of(trt): str(trt.__version__) for trt in runtimes},
        None if cuda is None else gpu_of(cuda),
    )


def gpu_of(cuda: Any) -> Gpu:
    """Return the properties of an open GPU that engines depend on."""
    return Gpu(cuda.name, cuda.compute_capability, cuda.driver_version)


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


@dataclass(frozen=True)
class OpenEngine:
    """A deserialized engine with its runtime, settings and runtime cache."""

    runtime: Any
    engine: Any
    config: Any
    """See ``compat.runtime_config``; None for TensorRT."""
    cache_file: Path
    cached: bytes
    """Content of the runtime cache's file when the engine was opened."""

    def store_runtime_cache(self) -> None:
        """Store the runtime cache if it has changed. A folder that is not writable is not an error."""
        serialized = compat.serialized_runtime_cache(self.config)
        if serialized and serialized != self.cached:
            with suppress(OutputError):
                write_checked(self.cache_file, serialized)


class TrtGenerator(BackendBase):
    """Runs the engine of the cache that fits the frames; sessions are kept by shape.

    An engine that was not verified on this GPU yet is verified before it computes its first frame. ``only``
    is one engine to run without that.
    """

    device = "cuda"

    def __init__(
        self,
        bundle: Bundle,
        runtimes: Sequence[Any],
        cuda: Any,
        folder: Path | None = None,
        *,
        graphs: bool = True,
        only: Engine | None = None,
    ) -> None:
        self.bundle, self.manifest, self.graph = bundle, bundle.manifest, bundle.generator
        self.cuda, self.graphs, self.only = cuda, graphs, only
        self.folder = folder or cache_folder()
        self.gpu = gpu_of(cuda)
        self.machine = machine(runtimes, cuda)
        self.runtimes = {compat.flavor_of(trt): trt for trt in runtimes}
        self.loggers = {flavor: collecting_logger(trt) for flavor, trt in self.runtimes.items()}
        self.engines: dict[Path, OpenEngine] = {}
        self.sessions: dict[Shape, Session] = {}

    def __call__(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Images:
        (stylized,) = self.stream([(frames, film_params, canvas)])
        return stylized

    def stream(self, batches: Iterable[Batch]) -> Iterator[Images]:
        """Yield stylized batches in order; copies of one overlap the kernels of the other."""
        waiting: tuple[Session, int] | None = None
        turn = 0
        for batch in batches:
            inputs = model_inputs(self.manifest, *batch)
            frames, films = inputs["frames"], inputs["film"]
            shape = (len(frames), frames.shape[1], frames.shape[2])
            if shape not in self.sessions:
                self.ensure_verified(self.engine_for(shape))
            with self.cuda.current():
                session = self.session(shape)
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
        """Return the session of a frame shape, opened if it is new. Raises BackendError."""
        if shape not in self.sessions:
            found = self.engine_for(shape)
            opened = self.opened(found)
            self.sessions[shape] = Session(
                self.runtimes[found.identity.flavor],
                self.cuda,
                opened.engine,
                opened.config,
                shape,
                self.manifest.film_size,
                graphs=self.graphs,
                canvas=bool(self.manifest.canvas_bands),
            )
        return self.sessions[shape]

    def engine_for(self, shape: Shape) -> Engine:
        """Return the cached engine for a frame shape. Raises BackendError with the command that builds
        one."""
        graph = self.manifest.files[GENERATOR]
        cached = self.only or find_engine(self.folder, graph, self.machine, shape)
        if cached is not None:
            return cached
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

    def ensure_verified(self, engine: Engine) -> None:
        """Verify an engine on this GPU if it was not yet, see :func:`verified`; call outside of ``current``.

        Raises VerificationError, after which the engine is no longer in the cache.
        """
        if self.only is None:
            verified(self.bundle, self.runtimes[engine.identity.flavor], self.cuda, engine)

    def opened(self, engine: Engine) -> OpenEngine:
        """Deserialize an engine once and check its tensors."""
        if engine.path not in self.engines:
            flavor = engine.identity.flavor
            trt = self.runtimes[flavor]
            runtime, loaded = deserialize(trt, self.loggers[flavor], engine, self.graph)
            names = {loaded.get_tensor_name(index) for index in range(loaded.num_io_tensors)}
            wanted = {*TENSORS, CANVAS} if self.manifest.canvas_bands else {*TENSORS}
            if names != wanted:
                raise BackendError(
                    f"{engine.path} has the tensors {sorted(names)}, expected {sorted(wanted)}; build it "
                    "again with [mst build: force]"
                )
            cache_file = runtime_cache_file(engine, self.gpu)
            cached = read_checked(cache_file)
            config = compat.runtime_config(trt, loaded, cached)
            self.engines[engine.path] = OpenEngine(runtime, loaded, config, cache_file, cached)
        return self.engines[engine.path]

    def close(self) -> None:
        """Free everything in the order that TensorRT requires: sessions, engines, the GPU."""
        if self.cuda is None:
            return
        try:
            with self.cuda.current():
                for session in self.sessions.values():
                    session.close()
                for opened in self.engines.values():
                    opened.store_runtime_cache()
                self.sessions.clear()
                self.engines.clear()
        finally:
            self.cuda.close()
            self.cuda = None


class Shared:
    """A GPU that its users do not close: the owner does."""

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cuda, name)

    def close(self) -> None:
        """Do nothing: the owner closes the GPU."""


def figures_of(bundle: Bundle, trt: Any, cuda: Any, engine: Engine) -> dict[str, Any]:
    """Compare an engine with ONNX Runtime and return the figures. Raises VerificationError."""

    def opened(graphs: bool) -> TrtGenerator:
        return TrtGenerator(bundle, [trt], Shared(cuda), graphs=graphs, only=engine)

    return verify(opened, bundle.generator, film_params_for(bundle), engine.identity.shapes.largest)


def verified(bundle: Bundle, trt: Any, cuda: Any, engine: Engine) -> Engine:
    """Verify an engine on this GPU unless it was before, and store that in its file; takes seconds.

    Concurrent processes verify it once. Raises VerificationError after removing the file. A folder that is
    not writable is not an error.
    """
    gpu = gpu_of(cuda)
    if engine.verified_on(gpu) is not None:
        return engine
    writable = os.access(engine.path.parent, os.W_OK)
    with FileLock(lock_file(engine.path)) if writable else nullcontext():
        engine = read_header(engine.path)
        if engine.verified_on(gpu) is not None:
            return engine
        try:
            verification = verification_now(gpu, figures_of(bundle, trt, cuda, engine))
        except VerificationError as error:
            remove(engine.path)
            error.add_note(f"{engine.path.name} was removed")
            raise
        with suppress(OutputError):
            return with_verification(engine, verification)
    return engine


def open_cuda() -> Any:
    """Open the first GPU. Raises MissingDependency, BackendError."""
    try:
        from mst_deploy.backends.trt.cuda import Cuda
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cuda":
            raise
        raise find_spec("trt").missing("cuda-bindings", "running TensorRT engines") from error
    return Cuda()


def open_generator(bundle: Bundle, device: str) -> TrtGenerator:
    """The engines of the cache. Raises BackendError, MissingDependency."""
    return TrtGenerator(bundle, compat.installed(), open_cuda())


def open_style_encoder(bundle: Bundle, device: str) -> Any:
    """Open ONNX Runtime's encoder: a style is encoded only once, an engine for it is not worth its build."""
    return load_backend("onnxrt").open_style_encoder(bundle, "cpu")
