"""ONNX -> serialized engine, on TensorRT 8.6, 10 and 11. What differs is in ``backends.compat``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import ShapeRange
from mst_deploy.backends.trt.runner import STRIPPED, VERSION_COMPATIBLE, collecting_logger
from mst_deploy.errors import BackendError, InvalidArgument

DEFAULT_LEVEL = 3
LEVELS = range(6)
Tell = Callable[[float, str], None]
"""Called with the finished share, 0..1, and what is being done."""


@dataclass(frozen=True)
class BuildOptions:
    """What the builder may do. The default ones leave no trace in an engine's identity."""

    workspace_mib: int | None = None
    """Most scratch memory a layer may use; None leaves it to TensorRT."""
    level: int = DEFAULT_LEVEL
    """0 (fast build) to 5 (fast engine)."""
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise InvalidArgument(
                field="optimization_level",
                problem=f"the optimization level goes from 0 to {LEVELS[-1]}, got {self.level}",
            )
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise InvalidArgument(
                field="workspace", problem=f"the workspace must be at least 1 MiB, got {self.workspace_mib}"
            )

    def flags(self) -> tuple[str, ...]:
        """Names of all that is not as usual, for the identity."""
        found = [
            (self.workspace_mib is not None, f"workspace-{self.workspace_mib}"),
            (self.level != DEFAULT_LEVEL, f"level-{self.level}"),
            (self.version_compatible, VERSION_COMPATIBLE),
            (self.hardware_compatible, "hardware-compatible"),
            (self.strip_weights, STRIPPED),
        ]
        return tuple(name for used, name in found if used)


@dataclass(frozen=True)
class Built:
    """A plan and the timings that were measured on the way."""

    plan: bytes
    timings: bytes


def build_plan(
    trt: Any,
    onnx: bytes,
    film_size: int,
    precision: str,
    shapes: ShapeRange,
    options: BuildOptions,
    timings: bytes,
    tell: Tell,
    *,
    canvas: bool = False,
) -> Built:
    """Serialize an engine for the generator graph, which may paint from a canvas. Takes minutes.

    ``timings`` are those of an earlier build (b"" for none). Raises BackendError with TensorRT's own
    reason, KeyboardInterrupt after Ctrl-C (at the next step of the builder; 8.6 cannot be stopped).
    """
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(compat.network_flags(trt))
    parse(trt, network, logger, onnx)
    config = builder.create_builder_config()
    set_options(trt, config, options)
    compat.set_precision(trt, network, config, precision)
    config.add_optimization_profile(profile_for(builder, shapes, film_size, canvas=canvas))
    cache = config.create_timing_cache(timings)
    config.set_timing_cache(cache, ignore_mismatch=False)
    with stopping(trt, config, tell) as stopped:
        plan = builder.build_serialized_network(network, config)
    if stopped.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise BackendError(
            f"TensorRT {trt.__version__} could not build the engine for {shapes}: "
            f"{logger.last_error()}; with too little memory, choose a smaller [option:size] or "
            "[option:workspace]; else run with [option:backend] onnxrt"
        )
    measured = config.get_timing_cache().serialize()
    return Built(bytes(plan), b"" if measured is None else bytes(measured))


def parse(trt: Any, network: Any, logger: Any, onnx: bytes) -> None:
    """Read the graph into the network. Raises BackendError naming every node that was not understood."""
    parser = trt.OnnxParser(network, logger)
    parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if parser.parse(onnx):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    told = "; ".join(f"node {error.node()}: {error.desc()}" for error in errors) or logger.last_error()
    raise BackendError(
        f"TensorRT {trt.__version__} does not understand the graph ({told}); TensorRT 8.6 needs a bundle "
        "made with: [mst export: opset=17]"
    )


def set_options(trt: Any, config: Any, options: BuildOptions) -> None:
    """Workspace, level, compatibility, stripping. Raises BackendError for what this version cannot do."""
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
    """The optimization profile of a range of frames, their FiLM vectors and, if there is one, the canvas."""
    profile = builder.create_optimization_profile()
    ends = (shapes.smallest, shapes.typical, shapes.largest)
    profile.set_shape("frames", *((*shape, 3) for shape in ends))
    profile.set_shape("film", *((shape[0], film_size) for shape in ends))
    if canvas:
        profile.set_shape("canvas", *((*shape, 1) for shape in ends))
    return profile


@contextmanager
def stopping(trt: Any, config: Any, tell: Tell) -> Iterator[threading.Event]:
    """Show the builder's progress, and let Ctrl-C stop it at its next step instead of inside of it."""
    stopped = threading.Event()
    base = compat.monitor_base(trt)
    if base is None:
        yield stopped
        return
    # Referred to until the build is over: TensorRT does not keep it alive.
    monitor = progress_monitor(base, tell, stopped)
    config.progress_monitor = monitor
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def progress_monitor(base: Any, tell: Tell, stopped: threading.Event) -> Any:
    """Nested phases as one share that only grows: each phase is its part of its parent's step."""

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
            tell(self.reached, phase_name)

    return Monitor()
