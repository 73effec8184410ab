"""Implementation of ``mst build`` and ``mst engines ...``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import (
    RUNTIME_CACHE_SUFFIX,
    SUFFIX,
    TIMING_SUFFIX,
    Engine,
    Identity,
    Machine,
    Shape,
    ShapeRange,
    cache_folder,
    listed,
    lock_file,
    read_checked,
    read_header,
    runtime_caches,
    store,
    why_not,
    with_verification,
    write_checked,
)
from mst_deploy.backends.trt.loading import collecting_logger, deserialize
from mst_deploy.backends.trt.runner import figures_of, machine, open_cuda, verified
from mst_deploy.backends.trt.verify import trial, verification_now
from mst_deploy.engines.build import build_plan
from mst_deploy.engines.layers import facts_of, layers_of, summary
from mst_deploy.engines.options import BuildOptions, Request
from mst_deploy.errors import BackendError, BundleError, InvalidArgument, MstError
from mst_deploy.model.bundle import GENERATOR, Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.onnx_passes.trt import for_tensorrt
from mst_deploy.size import Size

CACHES = (TIMING_SUFFIX, RUNTIME_CACHE_SUFFIX)


def build(request: Request) -> tuple[Engine, bool]:
    """Return the requested engine, and whether it had to be built. Raises MstError."""
    shapes = shape_range(request)
    bundle = open_bundle(resolve_model(request.model))
    with runtime_and_gpu(request) as (trt, cuda):
        return ensure(bundle, trt, cuda, shapes, request)


@contextmanager
def runtime_and_gpu(request: Request) -> Iterator[tuple[Any, Any]]:
    """Open the flavor of TensorRT to build with and the first GPU: None if it is neither there nor needed.

    Raises MissingDependency, BackendError, and InvalidArgument for options that the flavor refuses.
    """
    flavor = request.flavor or (compat.RTX if request.targets else None)
    found = compat.installed() if flavor is None else [compat.load(flavor)]
    cuda = gpu_or_none() if any(compat.portable(trt) for trt in found) else open_cuda()
    try:
        trt = found[0]
        if len(found) > 1 and cuda is not None and not runs_portable(cuda):
            trt = next(other for other in found if not compat.portable(other))  # such as H100
        if compat.portable(trt) and cuda is not None and flavor is None and not runs_portable(cuda):
            raise BackendError(compat.no_target(cuda.name, cuda.compute_capability))
        compat.refuse(trt, (*request.options.given(), *(["target"] if request.targets else [])))
        yield trt, cuda
    finally:
        if cuda is not None:
            cuda.close()


def gpu_or_none() -> Any:
    """Open the first GPU; None if there is no usable one."""
    try:
        return open_cuda()
    except BackendError:
        return None


def runs_portable(cuda: Any) -> bool:
    """Return whether TensorRT for RTX supports the GPU's compute capability."""
    return not compat.no_target(cuda.name, cuda.compute_capability)


def identity_of(bundle: Bundle, trt: Any, cuda: Any, shapes: ShapeRange, request: Request) -> Identity:
    """Return the identity of the requested engine."""
    manifest = bundle.manifest
    here = machine([trt], cuda).gpu
    targets: tuple[str, ...] = ()
    if compat.portable(trt):
        turing = here is not None and here.target == compat.TURING and not request.targets
        targets = compat.parse_targets([compat.TURING] if turing else request.targets)
    return Identity(
        manifest.name,
        manifest.files[GENERATOR],
        manifest.precision,
        shapes,
        compat.flavor_of(trt),
        str(trt.__version__),
        None if targets else here,
        targets,
        flags_of(request),
    )


def ensure(bundle: Bundle, trt: Any, cuda: Any, shapes: ShapeRange, request: Request) -> tuple[Engine, bool]:
    """Find the engine in the cache, or build and store it; concurrent processes build it once.

    It is verified if this machine's GPU can open it; else a portable engine is stored unverified.
    """
    folder = cache_folder()
    wanted = identity_of(bundle, trt, cuda, shapes, request)
    path = folder / wanted.file_name
    here = machine([trt], cuda)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_file(path)):
        engine = None if request.force else kept(path, request)
        fresh = engine is None
        if engine is None:
            if not request.force and (reasons := outdated(folder, wanted, here)):
                request.reporter.note(f"{reasons[0]}; a new engine will be built")
            engine = built(bundle, trt, cuda, wanted, request)
    reason = why_not(engine, wanted.onnx_sha256, here)
    if reason is None:
        engine = verified(bundle, trt, cuda, engine)
    elif cuda is not None:
        request.reporter.note(f"the engine is for other machines: {reason}")
    return engine, fresh


def kept(path: Path, request: Request) -> Engine | None:
    """Read the engine at ``path``; None if it is missing or damaged."""
    if not path.exists():
        return None
    with suppress(BundleError):
        engine = read_header(path)
        engine.plan()
        return engine
    request.reporter.note(f"{path.name} is damaged and will be built again")
    return None


def flags_of(request: Request) -> tuple[str, ...]:
    """Return the names of all options with other values than the default, for the identity."""
    return (*request.options.flags(), *(() if request.rewrite else ("as-exported",)))


def built(bundle: Bundle, trt: Any, cuda: Any, wanted: Identity, request: Request) -> Engine:
    """Build and store one engine; an engine bound to this GPU is stored only after it was verified."""
    folder = cache_folder()
    timing_file = None if wanted.gpu is None else folder / timing_name(wanted, request.options)
    use_timings = timing_file is not None and request.timing_cache and compat.has_timing_cache(trt)
    graph = for_tensorrt(bundle.generator, compat.major(trt), rewrite=request.rewrite)
    started = time.monotonic()
    with (
        nullcontext() if cuda is None else cuda.current(),
        request.reporter.progress(f"building {wanted.shapes}", 1000, unit="") as on_progress,
    ):
        made = build_plan(
            trt,
            graph,
            bundle.manifest.film_size,
            wanted.precision,
            wanted.shapes,
            request.options,
            read_checked(timing_file) if use_timings and timing_file else b"",
            lambda share, note: on_progress(round(1000 * share), note),
            canvas=bool(bundle.manifest.canvas_bands),
            targets=wanted.targets,
        )
    seconds = time.monotonic() - started
    if use_timings and timing_file and made.timings:
        write_checked(timing_file, made.timings)
    facts: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if wanted.gpu is None:
        return store(folder, wanted, made.plan, facts | facts_of(made.details))
    with trial(folder) as place:
        candidate = store(place, wanted, made.plan, facts)
        verification = verification_now(wanted.gpu, figures_of(bundle, trt, cuda, candidate))
        with cuda.current():
            facts |= inspected(trt, candidate, bundle.generator)
    return store(folder, wanted, made.plan, facts, [verification])


def inspected(trt: Any, engine: Engine, graph: Path) -> dict[str, Any]:
    """Return layers, share of convolutions in float16 and device memory; call inside ``cuda.current()``."""
    _, loaded = deserialize(trt, collecting_logger(trt), engine, graph)
    memory = round(compat.device_memory(trt, loaded) / 2**20, 1)
    return {**summary(layers_of(trt, loaded)), "device_memory_mib": memory}


def outdated(folder: Path, wanted: Identity, here: Machine) -> list[str]:
    """Return one sentence per engine of the same flavor, model and shapes that is no longer usable."""
    found = []
    for engine in listed(folder):
        if isinstance(engine, Engine) and engine.identity.model == wanted.model:
            own = engine.identity
            same = all(
                getattr(own, name) == getattr(wanted, name)
                for name in ("flavor", "shapes", "targets", "flags")
            )
            if same and here.gpu is None and own.version == wanted.version:
                reason = "the model's graph has changed since"  # all that can differ without a GPU
            else:
                reason = why_not(engine, wanted.onnx_sha256, here) or ""
            if same and reason:
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


def timing_name(identity: Identity, options: BuildOptions) -> str:
    """Return the name of the timing cache of an engine bound to a GPU: TensorRT's key omits the workspace."""
    words = [
        "timings",
        identity.version,
        *([identity.gpu.name.replace(" ", "-"), identity.gpu.compute_capability] if identity.gpu else []),
        f"workspace-{options.workspace_mib or 'default'}",
    ]
    return "-".join(words) + TIMING_SUFFIX


def list_engines() -> list[dict[str, Any]]:
    """All engine files of the cache, damaged ones with their error; needs no TensorRT."""
    with this_machine() as (here, _, _):
        return [_described(engine, here) for engine in listed(cache_folder())]


def explain(name: str, bundle: Path) -> dict[str, Any]:
    """Return all that is known of one engine. Raises InvalidArgument if there is no such file."""
    engine = _found(name)
    inside: dict[str, Any] = {}
    with this_machine() as (here, runtimes, cuda):
        if why_not(engine, engine.identity.onnx_sha256, here) is None:
            with cuda.current():
                trt = runtimes[engine.identity.flavor]
                inside = inspected(trt, engine, open_bundle(bundle).generator)
        return {**_described(engine, here), "flags": list(engine.identity.flags), **engine.built, **inside}


def verify_engines(names: Sequence[str], bundle: Path) -> list[dict[str, Any]]:
    """Read every plan against its checksum, and run those that fit this machine and model.

    Passed verifications are stored in the files; engines that fail are reported and kept.
    """
    opened = open_bundle(bundle)
    engines = [_found(name) for name in names] if names else list(listed(cache_folder()))
    found = []
    with this_machine() as (here, runtimes, cuda):
        for engine in engines:
            record = _described(engine, here)
            if isinstance(engine, Engine):
                try:
                    engine.plan()
                    record["file"] = "whole"
                    if here.gpu and why_not(engine, opened.manifest.files[GENERATOR], here) is None:
                        figures = figures_of(opened, runtimes[engine.identity.flavor], cuda, engine)
                        with FileLock(lock_file(engine.path)):
                            engine = with_verification(engine, verification_now(here.gpu, figures))
                        record = {**_described(engine, here), "file": "whole", "figures": figures}
                except MstError as error:
                    record["error"] = str(error)
            found.append(record)
    return found


def prune(*, everything: bool, dry_run: bool) -> list[str]:
    """Remove damaged engines and those that this machine cannot use; return the names removed.

    On a machine without a GPU, or without the flavor, engines are for other machines: only damaged ones are
    removed.
    """
    folder = cache_folder()
    removed: list[Path] = []
    with this_machine() as (here, _, _):
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
            try:
                engine = read_header(path)
                own = engine.identity
                ours = here.gpu is None or own.flavor not in here.versions
                external = not ours and why_not(engine, own.onnx_sha256, here) is not None
            except BundleError:
                external = True
            if everything or external:
                removed.append(path)
    removed += [own for path in removed for own in runtime_caches(path)]
    if everything and folder.is_dir():
        removed += [
            path for path in sorted(folder.iterdir()) if path.suffix in CACHES and path not in removed
        ]
    for path in removed if not dry_run else []:
        path.unlink(missing_ok=True)
    return [path.name for path in removed]


@contextmanager
def this_machine() -> Iterator[tuple[Machine, dict[str, Any], Any]]:
    """Yield the machine's properties, the modules by flavor, and the open GPU or None."""
    runtimes: list[Any] = []
    with suppress(MstError):
        runtimes = compat.installed()
    cuda = gpu_or_none() if runtimes else None
    try:
        yield machine(runtimes, cuda), {compat.flavor_of(trt): trt for trt in runtimes}, cuda
    finally:
        if cuda is not None:
            cuda.close()


def _described(engine: Engine | BundleError, here: Machine) -> dict[str, Any]:
    if isinstance(engine, BundleError):
        return {"error": str(engine)}
    own = engine.identity
    record: dict[str, Any] = {
        "name": engine.path.name,
        "state": state_of(engine),
        "model": own.model,
        "precision": own.precision,
        "size": str(own.shapes),
        "flavor": own.flavor,
        "version": own.version,
        "mib": round(engine.path.stat().st_size / 2**20, 1),
        "verified": [asdict(verification) for verification in engine.verifications],
    }
    record |= {"targets": list(own.targets)} if own.gpu is None else asdict(own.gpu)
    reason = why_not(engine, own.onnx_sha256, here)
    return {**record, "unusable": reason} if reason else record


def state_of(engine: Engine) -> str:
    """Describe where an engine runs and where it was verified."""
    own = engine.identity
    where = f"for {own.gpu}" if own.gpu else f"portable ({', '.join(own.targets)})"
    seen = [
        f"{verification.gpu} at {verification.when}: {verification.figures.get('psnr_db')} dB"
        for verification in engine.verifications
    ]
    return f"{where}, {'verified on ' + '; '.join(seen) if seen else 'not yet verified'}"


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
