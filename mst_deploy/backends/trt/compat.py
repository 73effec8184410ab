"""All differences between TensorRT 8.6, 10 and 11 that matter here, and nothing else.

``tests/backends/trt/test_api_contract.py`` checks them against the real bindings of all three. NVIDIA's
migration guide (TensorRT 10.x to 11.x) lists what 11 removed; enum numbers changed, so members are looked up
by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mst_deploy.backends.registry import find_spec
from mst_deploy.errors import BackendError

MAJORS = (8, 10, 11)
OLDEST_OF_8 = "8.6"
NAMES = ("tensorrt", "tensorrt_bindings")  # 11.1 may install the second only

HALF_LAYERS = ("CONVOLUTION",)
FULL_LAYERS = ("NORMALIZATION", "REDUCE", "SCALE")
"""Layers that stay float32 in 8.6, which alone chooses types by itself by default; statistics must stay
float32."""


def load() -> Any:
    """Return the tensorrt module. Raises MissingDependency, or BackendError for an unsupported version."""
    for name in NAMES:
        try:
            trt = import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != name:
                raise
            continue
        except ImportError as error:
            raise BackendError(
                f"TensorRT's Python package is installed but its libraries cannot be loaded ({error}); "
                "see docs/tensorrt.md"
            ) from error
        check(trt)
        return trt
    raise find_spec("trt").missing("tensorrt", "running TensorRT engines")


def check(trt: Any) -> None:
    """Raise BackendError for an unsupported version."""
    version = str(trt.__version__)
    if major(trt) not in MAJORS or (major(trt) == 8 and not version.startswith(OLDEST_OF_8)):
        raise BackendError(
            f"TensorRT {version} is installed; this program knows {OLDEST_OF_8}, 10.x and 11.x: install one "
            "of them (see docs/tensorrt.md), or run with [option:backend] onnxrt"
        )


def major(trt: Any) -> int:
    """Return the major version: 8, 10 or 11."""
    return int(str(trt.__version__).partition(".")[0])


def network_flags(trt: Any) -> int:
    """Return the flags of a network: 8.6 needs an explicit batch, 10 strong typing; 11 always has both."""
    wanted = {8: "EXPLICIT_BATCH", 10: "STRONGLY_TYPED"}.get(major(trt))
    return 0 if wanted is None else 1 << int(getattr(trt.NetworkDefinitionCreationFlag, wanted))


def set_precision(trt: Any, network: Any, config: Any, precision: str) -> None:
    """Set the types of a network for 8.6; from 10 on the types of the graph are used.

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


def device_memory(trt: Any, engine: Any) -> int:
    """Return the bytes of device memory that an execution context needs."""
    return int(engine.device_memory_size if major(trt) == 8 else engine.device_memory_size_v2)


def monitor_base(trt: Any) -> Any:
    """Return the base class of progress monitors, or None: 8.6 has none."""
    return None if major(trt) == 8 else trt.IProgressMonitor
