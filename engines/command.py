"""What ``mst build`` and ``mst engines ...`` do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mst_deploy.backends import FilmBatch, StylizeBackend
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import (
    SUFFIX,
    TIMING_SUFFIX,
    Engine,
    Identity,
    Machine,
    Shape,
    ShapeRange,
    cache_folder,
    listed,
    read_header,
    read_timings,
    store,
    why_not,
    write_timings,
)
from mst_deploy.backends.trt.runner import (
    TrtGenerator,
    collecting_logger,
    deserialize,
    machine,
    open_cuda,
)
from mst_deploy.engines.build import BuildOptions, build_plan
from mst_deploy.engines.layers import half_share, layers_of
from mst_deploy.engines.verify import trial, verify
from mst_deploy.errors import BundleError, InvalidArgument, MstError
from mst_deploy.model.bundle import GENERATOR, Bundle, open_bundle
from mst_deploy.model.zoo import styles_for
from mst_deploy.onnx_passes.trt import for_tensorrt
from mst_deploy.reporter import SILENT, Reporter
from mst_deploy.size import Size

VERIFIED_STYLES = 2


@dataclass(frozen=True)
class Request:
    """What to build, as the options say."""

    bundle: Path
    size: str | None = None
    smallest: str | None = None
    typical: str | None = None
    largest: str | None = None
    batch: int = 1
    options: BuildOptions = field(default_factory=BuildOptions)
    rewrite: bool = True
    """Replace operators by cheaper ones that compute the same."""
    timing_cache: bool = True
    force: bool = False
    reporter: Reporter = SILENT


def build(request: Request) -> tuple[Engine, bool]:
    """The engine that was asked for, and whether it had to be built. Raises MstError."""
    shapes = shape_range(request)
    bundle = open_bundle(request.bundle)
    with tensorrt_and_gpu() as (trt, cuda):
        return ensure(bundle, trt, cuda, shapes, request)


@contextmanager
def tensorrt_and_gpu() -> Iterator[tuple[Any, Any]]:
    """TensorRT and the first GPU. Raises MissingDependency, BackendError."""
    trt = compat.load()
    cuda = open_cuda()
    try:
        yield trt, cuda
    finally:
        cuda.close()


def ensure(bundle: Bundle, trt: Any, cuda: Any, shapes: ShapeRange, request: Request) -> tuple[Engine, bool]:
    """Find the engine in the cache, or build, verify and store it; two processes build it once."""
    folder = cache_folder()
    manifest = bundle.manifest
    wanted = Identity(
        manifest.name,
        manifest.files[GENERATOR],
        manifest.precision,
        shapes,
        machine(trt, cuda),
        flags_of(request),
    )
    path = folder / wanted.file_name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{wanted.digest}.lock"):
        if path.exists() and not request.force:
            with suppress(BundleError):
                engine = read_header(path)
                engine.plan()
                return engine, False
            request.reporter.note(f"{path.name} is damaged and will be built again")
        elif not request.force and (reasons := outdated(folder, wanted)):
            request.reporter.note(f"{reasons[0]}; a new engine will be built")
        return built(bundle, trt, cuda, wanted, request), True


def flags_of(request: Request) -> tuple[str, ...]:
    """All that is not as usual, for the identity."""
    return (*request.options.flags(), *(() if request.rewrite else ("as-exported",)))


def built(bundle: Bundle, trt: Any, cuda: Any, wanted: Identity, request: Request) -> Engine:
    """Build, verify and store one engine. Nothing is stored unless it passed."""
    folder = cache_folder()
    timing_file = folder / timing_name(wanted.machine, request.options)
    graph = for_tensorrt(bundle.generator, compat.major(trt), rewrite=request.rewrite)
    started = time.monotonic()
    with (
        cuda.current(),
        request.reporter.progress(f"building {wanted.shapes}", 1000, unit="") as tell,
    ):
        made = build_plan(
            trt,
            graph,
            bundle.manifest.film_size,
            wanted.precision,
            wanted.shapes,
            request.options,
            read_timings(timing_file) if request.timing_cache else b"",
            lambda share, note: tell(round(1000 * share), note),
            canvas=bool(bundle.manifest.canvas_bands),
        )
    seconds = time.monotonic() - started
    if request.timing_cache and made.timings:
        write_timings(timing_file, made.timings)
    facts: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with trial(folder) as place:
        candidate = store(place, wanted, made.plan, facts)
        facts["verified"] = checked(bundle, trt, cuda, candidate)
        with cuda.current():
            facts |= inspected(trt, candidate, bundle.generator)
    return store(folder, wanted, made.plan, facts)


def checked(bundle: Bundle, trt: Any, cuda: Any, engine: Engine) -> dict[str, Any]:
    """The verification's figures. Raises VerificationError."""

    def opened(graphs: bool) -> StylizeBackend:
        return TrtGenerator(bundle, trt, Shared(cuda), graphs=graphs, only=engine)

    shape = engine.identity.shapes.largest
    return verify(opened, bundle.generator, films_for(bundle), shape)


def inspected(trt: Any, engine: Engine, graph: Path) -> dict[str, Any]:
    """Layers, share of convolutions in float16, device memory; call inside ``cuda.current()``."""
    _, loaded = deserialize(trt, collecting_logger(trt), engine, graph)
    layers = layers_of(trt, loaded)
    share = half_share(layers)
    return {
        "layers": len(layers),
        "convolutions_in_fp16": None if share is None else round(share, 3),
        "device_memory_mib": round(compat.device_memory(trt, loaded) / 2**20, 1),
    }


class Shared:
    """A GPU that its users do not close: the command that opened it does."""

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cuda, name)

    def close(self) -> None:
        """Left to the owner."""


def films_for(bundle: Bundle) -> FilmBatch:
    """Rows of real styles where the shipped ones fit the model, else the identity row."""
    fitting = [style.film for style in styles_for(bundle.manifest.model_id).values()]
    rows = fitting[:: max(1, len(fitting) // VERIFIED_STYLES)][:VERIFIED_STYLES]
    return np.stack(rows or [bundle.manifest.layout.identity()])


def outdated(folder: Path, wanted: Identity) -> list[str]:
    """One plain sentence for each engine of the same model and shapes that does not fit any more."""
    found = []
    for engine in listed(folder):
        if isinstance(engine, Engine) and engine.identity.model == wanted.model:
            own = engine.identity
            reason = why_not(engine, wanted.onnx_sha256, wanted.machine)
            if own.shapes == wanted.shapes and own.flags == wanted.flags and reason:
                found.append(f"the engine for {own.shapes} cannot be used: {reason}")
    return found


def shape_range(request: Request) -> ShapeRange:
    """The frames of a request.

    Raises InvalidArgument unless it has one size, or a smallest, a typical and a largest.
    """
    ends = [request.smallest, request.typical, request.largest]
    if request.size is not None and not any(ends):
        shape = _shape(request.size, request.batch)
        return ShapeRange(shape, shape, shape)
    if request.size is None and all(ends):
        low, middle, high = (_shape(str(text), request.batch) for text in ends)
        ordered = all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))
        if not ordered:
            raise InvalidArgument(
                field="typical",
                problem=f"[option:smallest], [option:typical] and [option:largest] must grow: got {ends}",
            )
        return ShapeRange(low, middle, high)
    raise InvalidArgument(
        field="size",
        problem=(
            "give [option:size] WxH for frames of one size, or all of [option:smallest], [option:typical] "
            "and [option:largest]"
        ),
    )


def timing_name(where: Machine, options: BuildOptions) -> str:
    """The timing cache's file: TensorRT's own key leaves out the workspace."""
    words = [
        "timings",
        where.tensorrt,
        where.gpu.replace(" ", "-"),
        where.compute_capability,
        f"workspace-{options.workspace_mib or 'default'}",
    ]
    return "-".join(words) + TIMING_SUFFIX


def list_engines() -> list[dict[str, Any]]:
    """All engine files of the cache, damaged ones with their error; needs no TensorRT."""
    here = this_machine()
    return [_described(engine, here) for engine in listed(cache_folder())]


def explain(name: str, bundle: Path) -> dict[str, Any]:
    """Everything known of one engine. Raises InvalidArgument when there is no such file."""
    engine = _found(name)
    here = this_machine()
    inside: dict[str, Any] = {}
    if here == engine.identity.machine:
        with tensorrt_and_gpu() as (trt, cuda), cuda.current():
            inside = inspected(trt, engine, open_bundle(bundle).generator)
    return {**_described(engine, here), "flags": list(engine.identity.flags), **engine.built, **inside}


def verify_engines(names: Sequence[str], bundle: Path) -> list[dict[str, Any]]:
    """Read every plan against its checksum, and run those that fit this machine and model."""
    opened, here = open_bundle(bundle), this_machine()
    engines = [_found(name) for name in names] if names else list(listed(cache_folder()))
    found = []
    for engine in engines:
        record = _described(engine, here)
        if isinstance(engine, Engine):
            try:
                engine.plan()
                record["file"] = "whole"
                if here is not None and not why_not(engine, opened.manifest.files[GENERATOR], here):
                    with tensorrt_and_gpu() as (trt, cuda):
                        record["verified"] = checked(opened, trt, cuda, engine)
            except MstError as error:
                record["error"] = str(error)
        found.append(record)
    return found


def prune(*, everything: bool, dry_run: bool) -> list[str]:
    """Remove engines that this machine cannot use, damaged ones and timing caches -> names removed."""
    folder, here = cache_folder(), this_machine()
    doomed: list[Path] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            engine = read_header(path)
            external = here is not None and engine.identity.machine != here
        except BundleError:
            external = True
        if everything or external:
            doomed.append(path)
    if everything and folder.is_dir():
        doomed += sorted(folder.glob(f"*{TIMING_SUFFIX}"))
    for path in doomed if not dry_run else []:
        path.unlink(missing_ok=True)
    return [path.name for path in doomed]


def this_machine() -> Machine | None:
    """What engines of this machine are bound to; None where TensorRT or a GPU is missing."""
    try:
        with tensorrt_and_gpu() as (trt, cuda):
            return machine(trt, cuda)
    except MstError:
        return None


def _described(engine: Engine | BundleError, here: Machine | None) -> dict[str, Any]:
    if isinstance(engine, BundleError):
        return {"error": str(engine)}
    own = engine.identity
    record = {
        "name": engine.path.name,
        "model": own.model,
        "precision": own.precision,
        "size": str(own.shapes),
        "tensorrt": own.machine.tensorrt,
        "cuda": own.machine.cuda,
        "gpu": own.machine.gpu,
        "compute_capability": own.machine.compute_capability,
        "mib": round(engine.path.stat().st_size / 2**20, 1),
    }
    if here is not None and own.machine != here:
        record["unusable"] = why_not(engine, own.onnx_sha256, here)
    return record


def _found(name: str) -> Engine:
    path = cache_folder() / name
    if not path.is_file():
        raise InvalidArgument(
            field="name",
            problem=f"there is no engine {name!r} in {cache_folder()}",
            hint="see mst engines list",
        )
    return read_header(path)


def _shape(size: str, batch: int) -> Shape:
    wanted = Size.parse(size)
    if wanted.width is None or wanted.height is None:
        raise InvalidArgument(field="size", problem=f"an engine needs WIDTHxHEIGHT, got {size!r}")
    return (batch, wanted.height, wanted.width)
