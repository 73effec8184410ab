"""TensorRT backend: runs engines of the cache, each verified on the GPU before its first frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

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
from mst_deploy.backends.trt.loading import collecting_logger, deserialize
from mst_deploy.backends.trt.session import CANVAS, SLOTS, TENSORS, Session
from mst_deploy.backends.trt.verify import film_params_for, verification_now, verify
from mst_deploy.errors import BackendError, OutputError, VerificationError
from mst_deploy.model.bundle import GENERATOR, Bundle
from mst_deploy.model.canvas import Canvas


def machine(runtimes: Sequence[Any], cuda: Any) -> Machine:
    """Return the versions of the flavors and the GPU; ``cuda`` is None if there is no GPU."""
    return Machine(
        {compat.flavor_of(trt): str(trt.__version__) for trt in runtimes},
        None if cuda is None else gpu_of(cuda),
    )


def gpu_of(cuda: Any) -> Gpu:
    """Return the properties of an open GPU that engines depend on."""
    return Gpu(cuda.name, cuda.compute_capability, cuda.driver_version)


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
