"""All differences between the flavors and versions of TensorRT that matter here, and nothing else.

There are two flavors: ``tensorrt`` (8.6, 10, 11) and ``rtx`` (TensorRT for RTX 1.x, the module
``tensorrt_rtx``), which counts its versions from 1, builds without a GPU for named compute capabilities and
compiles its kernels when an engine is opened. ``tests/backends/trt/test_api_contract.py`` checks them against
the real bindings. NVIDIA's migration guide (TensorRT 10.x to 11.x) lists what 11 removed; enum numbers
changed, so members are looked up by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from mst_deploy.backends.registry import find_spec
from mst_deploy.errors import BackendError, InvalidArgument, MissingDependency

TENSORRT, RTX = "tensorrt", "rtx"


@dataclass(frozen=True)
class Flavor:
    """One flavor of TensorRT."""

    product: str
    """Name for messages."""
    modules: tuple[str, ...]
    """Names to import it by, in order of preference."""
    known: str
    """Supported versions, for messages."""
    targets: tuple[str, ...] = ()
    """Compute capabilities to build for without a GPU; () if engines are bound to the GPU that built them."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Builder options that have no effect or fail, with the reason."""


FLAVORS = {
    TENSORRT: Flavor(
        "TensorRT",
        ("tensorrt", "tensorrt_bindings"),  # 11.1 may install the second only
        "8.6, 10.x and 11.x",
        refused={"target": "an engine is built for the GPU of this machine"},
    ),
    RTX: Flavor(
        "TensorRT for RTX",
        ("tensorrt_rtx",),
        "1.x from 1.7 on",
        targets=("SM75", "SM80", "SM86", "SM89", "SM120", "SM121"),
        refused={
            "workspace": "it limits the builder, which measures no kernels, and only makes builds fail",
            "optimization_level": "all levels give the same engine",
            "version_compatible": "the wheels do not contain the library that such engines need",
            "hardware_compatible": "all engines are portable; choose the GPUs with [option:target]",
            "strip_weights": "without a GPU the builder fails with it",
        },
    ),
}
DEFAULT_TARGETS = ("SM80", "SM86", "SM89", "SM120", "SM121")
"""Ampere, Ada and Blackwell together cost no more than one of them; Turing (SM75) would double an engine."""
TURING = "SM75"
OLDEST_OF_8 = "8.6"
OLDEST_OF_RTX = (1, 7)
MAJORS = (8, 10, 11)

HALF_LAYERS = ("CONVOLUTION",)
FULL_LAYERS = ("NORMALIZATION", "REDUCE", "SCALE")
"""8.6 alone chooses types by itself unless they are set; statistics must stay float32."""
NO_DRIVER = "cudaError 35"
"""Part of the line that TensorRT for RTX logs after every error on a machine without a driver."""


def load(flavor: str | None = None) -> Any:
    """Return the module of a flavor; None takes the first installed one, TensorRT for RTX before TensorRT.

    Raises InvalidArgument for an unknown flavor, MissingDependency with the line that installs it,
    BackendError for an unsupported version or libraries that do not load.
    """
    return installed()[0] if flavor is None else import_flavor(flavor)


def installed() -> list[Any]:
    """Return the modules of all usable flavors, TensorRT for RTX first; at least one.

    Raises MissingDependency if there is none, BackendError if there are some and none can be used.
    """
    found: list[Any] = []
    errors: list[BackendError] = []
    for flavor in (RTX, TENSORRT):
        try:
            found.append(import_flavor(flavor))
        except MissingDependency:
            continue
        except BackendError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    if not found:
        missing = find_spec("trt").missing(FLAVORS[RTX].modules[0], "a TensorRT engine")
        missing.add_note(f"on H100, H200 and Jetson with: pip install 'mst-deploy[{TENSORRT}]'")
        raise missing
    return found


def import_flavor(flavor: str) -> Any:
    """Import one flavor; errors as for :func:`load`."""
    if flavor not in FLAVORS:
        raise InvalidArgument(f"unknown flavor {flavor!r} of TensorRT; choose one of {', '.join(FLAVORS)}")
    known = FLAVORS[flavor]
    for name in known.modules:
        try:
            trt = import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != name:
                raise
            continue
        except (ImportError, OSError) as error:
            raise BackendError(
                f"the Python package of {known.product} is installed but its libraries cannot be loaded "
                f"({error}); see docs/tensorrt.md"
            ) from error
        check(trt)
        return trt
    raise MissingDependency(known.modules[0], flavor, f"an engine of {known.product}")


def flavor_of(trt: Any) -> str:
    """Return the flavor of a module."""
    return RTX if str(getattr(trt, "__name__", "")).startswith("tensorrt_rtx") else TENSORRT


def product(trt: Any) -> str:
    """Return name and version for messages."""
    return f"{FLAVORS[flavor_of(trt)].product} {trt.__version__}"


def check(trt: Any) -> None:
    """Raise BackendError for an unsupported version."""
    version, flavor = str(trt.__version__), flavor_of(trt)
    if flavor == RTX:
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        good = numbers[:1] == OLDEST_OF_RTX[:1] and numbers >= OLDEST_OF_RTX
    else:
        good = major(trt) in MAJORS and (major(trt) != 8 or version.startswith(OLDEST_OF_8))
    if not good:
        raise BackendError(
            f"{product(trt)} is installed; this program knows {FLAVORS[flavor].known}: install one of them "
            "(see docs/tensorrt.md), or run with [option:backend] onnxrt"
        )


def major(trt: Any) -> int:
    """Return the major version: 8, 10 or 11; 1 for TensorRT for RTX."""
    return int(str(trt.__version__).partition(".")[0])


def portable(trt: Any) -> bool:
    """Return whether engines are built without a GPU, for a list of compute capabilities."""
    return bool(FLAVORS[flavor_of(trt)].targets)


def refuse(trt: Any, options: Iterable[str]) -> None:
    """Raise InvalidArgument if this flavor does not support an option, such as workspace."""
    refused = FLAVORS[flavor_of(trt)].refused
    for option in options:
        if option in refused:
            raise InvalidArgument(
                field=option,
                problem=f"[option:{option}] cannot be used with {product(trt)}",
                hint=refused[option],
            )


def parse_targets(texts: Sequence[str]) -> tuple[str, ...]:
    """Parse ``["8.6,SM89"]`` to ("SM86", "SM89"), sorted and without duplicates; () gives the default ones.

    Raises InvalidArgument for unsupported compute capabilities, and for Turing together with others.
    """
    known = FLAVORS[RTX].targets
    found = {
        "SM" + word.strip().upper().removeprefix("SM").replace(".", "")
        for text in texts
        for word in text.split(",")
    }
    if not found:
        return DEFAULT_TARGETS
    for name in sorted(found):
        if name not in known:
            raise InvalidArgument(
                f"TensorRT for RTX builds no engines for {name}; choose among {', '.join(known)}"
                + (" (H100 and H200 run TensorRT: [option:flavor] tensorrt)" if name == "SM90" else "")
            )
    if TURING in found and len(found) > 1:
        raise InvalidArgument(
            f"{TURING} (Turing) doubles an engine and is built by itself: give [option:target] {TURING}, and "
            "the others in a build of their own"
        )
    return tuple(name for name in known if name in found)


def no_target(gpu: str, compute_capability: str) -> str:
    """Return the message for a GPU that TensorRT for RTX does not support, "" for one that it does."""
    target = target_of(compute_capability)
    if target in FLAVORS[RTX].targets:
        return ""
    return (
        f"this {gpu} ({target}) is no target of TensorRT for RTX; install TensorRT: pip install "
        f"'mst-deploy[{TENSORRT}]', or build for other machines with [option:flavor] rtx"
    )


def target_of(compute_capability: str) -> str:
    """Convert ``8.6`` to SM86."""
    return "SM" + compute_capability.replace(".", "")


def set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    """Set the compute capabilities of a portable engine; () for one bound to the GPU of this machine."""
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, name in enumerate(targets):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), index):
            raise BackendError(f"{product(trt)} does not build for {name}; leave it out of [option:target]")


def network_flags(trt: Any) -> int:
    """Return flags for create_network: explicit batch in 8.6, strong typing in 10; 11 and RTX need none."""
    wanted = {8: "EXPLICIT_BATCH", 10: "STRONGLY_TYPED"}.get(major(trt))
    return 0 if wanted is None else 1 << int(getattr(trt.NetworkDefinitionCreationFlag, wanted))


def set_precision(trt: Any, network: Any, config: Any, precision: str) -> None:
    """Make 8.6 use the types of the graph; all other versions always do.

    8.6 needs flags for the types it may use, and keeps a layer's type only if it is set and constraints are
    obeyed. Raises BackendError for a precision that 8.6 cannot build.
    """
    if major(trt) != 8 or precision == "fp32":
        return
    if precision != "fp16":
        raise BackendError(
            f"TensorRT 8.6 cannot build {precision} graphs; export with [option:precision] fp16"
        )
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    types = {getattr(trt.LayerType, name): trt.DataType.HALF for name in HALF_LAYERS}
    types |= {getattr(trt.LayerType, name): trt.DataType.FLOAT for name in FULL_LAYERS}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in types:
            layer.precision = types[layer.type]
            layer.set_output_type(0, types[layer.type])


def parse_hint(trt: Any) -> str:
    """Return what may help if a graph is not supported, as the end of a sentence; "" if unknown."""
    return "; TensorRT 8.6 needs a bundle made with: [mst export: opset=17]" if major(trt) == 8 else ""


def has_timing_cache(trt: Any) -> bool:
    """Return whether the builder times kernels. RTX does not; its timing cache has no effect."""
    return flavor_of(trt) != RTX


def hardware_level(trt: Any) -> Any:
    """Return the level for engines that run on every GPU from Ampere on, in all three versions."""
    return trt.HardwareCompatibilityLevel.AMPERE_PLUS


def strip_flags(trt: Any) -> tuple[Any, ...]:
    """Return the builder flags for a plan without weights. Raises BackendError for 8.6, which has none."""
    if major(trt) == 8:
        raise BackendError(
            "TensorRT 8.6 cannot strip weights from an engine; leave out [option:strip_weights]"
        )
    return (trt.BuilderFlag.STRIP_PLAN, trt.BuilderFlag.REFIT_IDENTICAL)


def refit(trt: Any, logger: Any, engine: Any, onnx: bytes) -> bool:
    """Load the graph's weights into a stripped engine (10 and 11); return whether it succeeded."""
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    return bool(parser.refit_from_bytes(onnx) and refitter.refit_cuda_engine())


def refusal(trt: Any, runtime: Any, plan: bytes) -> str | None:
    """Return why a plan cannot be opened on this GPU, in TensorRT's own terms; None if it can, or if unknown.

    Only TensorRT for RTX can determine this without opening it. Call inside of the CUDA context.
    """
    if flavor_of(trt) != RTX:
        return None
    validity, diagnostics = runtime.get_engine_validity(plan)
    if int(validity) != int(trt.EngineValidity.INVALID):
        return None
    bits = trt.EngineInvalidityDiagnostics.__members__
    return ", ".join(sorted(name for name, bit in bits.items() if int(diagnostics) & int(bit))) or "INVALID"


def runtime_config(trt: Any, engine: Any, compiled: bytes) -> Any:
    """Return the settings for :func:`create_context` with RTX; None for TensorRT, which has none.

    RTX compiles the kernels of a frame size in the background by default and runs slower ones meanwhile;
    EAGER waits. ``compiled`` is the runtime cache of an earlier run (b"" for none); TensorRT ignores it if
    it does not fit this GPU, driver and version. Call inside of the CUDA context.
    """
    if flavor_of(trt) != RTX:
        return None
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    cache = config.create_runtime_cache()
    if compiled:
        cache.deserialize(compiled)
    config.set_runtime_cache(cache)
    return config


def create_context(engine: Any, config: Any) -> Any:
    """Create an execution context, or return None."""
    return engine.create_execution_context() if config is None else engine.create_execution_context(config)


def serialized_runtime_cache(config: Any) -> bytes:
    """Serialize the runtime cache for :func:`runtime_config`; b"" if there is none."""
    cache = None if config is None else config.get_runtime_cache()
    data = None if cache is None else cache.serialize()
    return b"" if data is None else bytes(data)


def can_capture(trt: Any, context: Any, stream: int) -> bool:
    """Return whether the context can be captured into a CUDA graph on a stream."""
    return flavor_of(trt) != RTX or bool(context.is_stream_capturable(stream))


def device_memory(trt: Any, engine: Any) -> int:
    """Return the bytes of device memory that an execution context needs."""
    return int(engine.device_memory_size if major(trt) == 8 else engine.device_memory_size_v2)


def monitor_base(trt: Any) -> Any:
    """Return the base class of progress monitors, or None: 8.6 has none."""
    return None if major(trt) == 8 else trt.IProgressMonitor
