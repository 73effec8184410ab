"""ONNX -> serialized engine, with both flavors of TensorRT; ``backends.trt.compat`` has the differences."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import ShapeRange
from mst_deploy.backends.trt.loading import collecting_logger
from mst_deploy.backends.trt.session import CANVAS, TENSORS
from mst_deploy.engines.options import BuildOptions
from mst_deploy.errors import BackendError

OnProgress = Callable[[float, str], None]
"""Callback with the finished share, 0..1, and the name of the current phase."""


@dataclass(frozen=True)
class Built:
    """A serialized engine with the timing cache and the builder's messages about it."""

    plan: bytes
    timings: bytes
    details: tuple[str, ...] = ()
    """Messages about layers and memory (TensorRT for RTX only), see ``layers.facts_of``."""


def build_plan(
    trt: Any,
    onnx: bytes,
    film_size: int,
    precision: str,
    shapes: ShapeRange,
    options: BuildOptions,
    timings: bytes,
    on_progress: OnProgress,
    *,
    canvas: bool = False,
    targets: Sequence[str] = (),
) -> Built:
    """Serialize an engine for the generator graph, which may paint from a canvas. Takes minutes, or seconds
    with TensorRT for RTX, which alone has ``targets``: compute capabilities such as SM86.

    ``timings`` are those of an earlier build (b"" for none). Raises InvalidArgument for options that this
    flavor refuses, BackendError with TensorRT's own reason, KeyboardInterrupt after Ctrl-C (at the next step
    of the builder; 8.6 cannot be stopped).
    """
    compat.refuse(trt, (*options.given(), *(["target"] if targets else [])))
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(compat.network_flags(trt))
    parse(trt, network, logger, onnx, canvas=canvas)
    config = builder.create_builder_config()
    compat.set_targets(trt, config, targets)
    set_options(trt, config, options)
    compat.set_precision(trt, network, config, precision)
    logger.forget()
    if config.add_optimization_profile(profile_for(builder, shapes, film_size, canvas=canvas)) < 0:
        raise BackendError(f"{compat.product(trt)} does not take frames of {shapes}: {logger.reason()}")
    cached = compat.has_timing_cache(trt)
    if cached:
        config.set_timing_cache(config.create_timing_cache(timings), ignore_mismatch=False)
    logger.forget()
    with stopping(trt, config, on_progress) as stopped:
        plan = builder.build_serialized_network(network, config)
    if stopped.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise BackendError(
            f"{compat.product(trt)} could not build the engine for {shapes}: {logger.reason()}; with too "
            "little memory, choose a smaller [option:size]; else run with [option:backend] onnxrt"
        )
    measured = config.get_timing_cache().serialize() if cached else None
    return Built(bytes(plan), b"" if measured is None else bytes(measured), tuple(logger.details))


def parse(trt: Any, network: Any, logger: Any, onnx: bytes, *, canvas: bool = False) -> None:
    """Read the graph into the network. Raises BackendError naming every node that was not understood.

    Parsers accept bytes that are no graph at all and give an empty network: the tensors must be there.
    """
    logger.forget()
    parser = trt.OnnxParser(network, logger)
    parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if not parser.parse(onnx):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        details = "; ".join(f"node {error.node()}: {readable(error.desc())}" for error in errors)
        raise BackendError(
            f"{compat.product(trt)} does not understand the graph ({details or logger.reason()})"
            f"{compat.parse_hint(trt)}"
        )
    found = [network.get_input(index).name for index in range(network.num_inputs)]
    found += [network.get_output(index).name for index in range(network.num_outputs)]
    missing = {*TENSORS, *([CANVAS] if canvas else [])} - {*found}
    if missing:
        raise BackendError(
            f"{compat.product(trt)} read a graph with {f'the tensors {found}' if found else 'no tensors'}, "
            f"without {', '.join(sorted(missing))}: it is not a generator of this program, or damaged"
        )


def readable(text: str) -> str:
    """Return an error of the parser in one line, without the lines about a missing driver."""
    return " ".join(" ".join(line for line in text.splitlines() if compat.NO_DRIVER not in line).split())


def set_options(trt: Any, config: Any, options: BuildOptions) -> None:
    """Workspace, level, compatibility, stripping. Raises BackendError for what this version cannot do."""
    if options.level is not None:
        config.builder_optimization_level = options.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # names and types for the inspector
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = compat.hardware_level(trt)
    for flag in compat.strip_flags(trt) if options.strip_weights else ():
        config.set_flag(flag)


def profile_for(builder: Any, shapes: ShapeRange, film_size: int, *, canvas: bool) -> Any:
    """Return the optimization profile of a range of frames, their FiLM vectors and, if there is one, the
    canvas."""
    profile = builder.create_optimization_profile()
    ends = (shapes.smallest, shapes.typical, shapes.largest)
    profile.set_shape("frames", *((*shape, 3) for shape in ends))
    profile.set_shape("film", *((shape[0], film_size) for shape in ends))
    if canvas:
        profile.set_shape("canvas", *((*shape, 1) for shape in ends))
    return profile


@contextmanager
def stopping(trt: Any, config: Any, on_progress: OnProgress) -> Iterator[threading.Event]:
    """Report the builder's progress, and let Ctrl-C stop it at its next step instead of inside of it."""
    stopped = threading.Event()
    base = compat.monitor_base(trt)
    if base is None:
        yield stopped
        return
    # Referenced until the build is over: TensorRT does not keep it alive.
    monitor = progress_monitor(base, on_progress, stopped)
    config.progress_monitor = monitor
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def progress_monitor(base: Any, on_progress: OnProgress, stopped: threading.Event) -> Any:
    """Return a monitor that maps nested phases to one monotonic share: each phase is part of its parent's
    step."""

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.phases: dict[str, list[Any]] = {}  # name -> [parent, steps, done]
            self.reached = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = [parent_phase, max(1, num_steps), 0]
            self.show(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.phases:
                self.phases[phase_name][2] = step + 1
                self.show(phase_name)
            return not stopped.is_set()

        def show(self, phase_name: str) -> None:
            inner, name = 0.0, phase_name
            while name in self.phases:
                parent, steps, done = self.phases[name]
                inner = min(1.0, (done + inner) / steps)
                name = parent
            self.reached = max(self.reached, inner)
            on_progress(self.reached, phase_name)

    return Monitor()
