"""Every difference between TensorRT 8.6, 10 and 11 that this project meets, and nothing else.

Held to the real bindings of all three by ``tests/backends/trt/test_api_contract.py``. What 11 removed is
listed in NVIDIA's migration guide (TensorRT 10.x to 11.x); enum numbers moved, so members are looked up by
name.
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
"""8.6 alone decides types by itself unless told; statistics must stay float32."""


def load() -> Any:
    """The tensorrt module. Raises MissingDependency, or BackendError for a version that is not known."""
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
    """Raise BackendError for a version that this project does not know."""
    version = str(trt.__version__)
    if major(trt) not in MAJORS or (major(trt) == 8 and not version.startswith(OLDEST_OF_8)):
        raise BackendError(
            f"TensorRT {version} is installed; this program knows {OLDEST_OF_8}, 10.x and 11.x: install one "
            "of them (see docs/tensorrt.md), or run with [option:backend] onnxrt"
        )


def major(trt: Any) -> int:
    """8, 10 or 11."""
    return int(str(trt.__version__).partition(".")[0])


def network_flags(trt: Any) -> int:
    """8.6 must be asked for an explicit batch, 10 for strong typing; 11 has both always."""
    wanted = {8: "EXPLICIT_BATCH", 10: "STRONGLY_TYPED"}.get(major(trt))
    return 0 if wanted is None else 1 << int(getattr(trt.NetworkDefinitionCreationFlag, wanted))


def set_precision(trt: Any, network: Any, config: Any, precision: str) -> None:
    """Let 8.6 use the types that the graph was written in; from 10 on the graph's types are the law.

    8.6 takes flags for the types it may use, and keeps a layer's only if it is told and bound to obey.
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
    """What "runs on other GPUs too" is called: every GPU from Ampere on, in all three versions."""
    return trt.HardwareCompatibilityLevel.AMPERE_PLUS


def strip_flags(trt: Any) -> tuple[Any, ...]:
    """Builder flags for a plan without weights. Raises BackendError where there are none (8.6)."""
    if major(trt) == 8:
        raise BackendError(
            "TensorRT 8.6 cannot strip weights from an engine; leave out [option:strip_weights]"
        )
    return (trt.BuilderFlag.STRIP_PLAN, trt.BuilderFlag.REFIT_IDENTICAL)


def refit(trt: Any, logger: Any, engine: Any, onnx: bytes) -> bool:
    """Put the graph's weights into a stripped engine (10 and 11) -> whether that went well."""
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    return bool(parser.refit_from_bytes(onnx) and refitter.refit_cuda_engine())


def device_memory(trt: Any, engine: Any) -> int:
    """Bytes of device memory that an execution context takes."""
    return int(engine.device_memory_size if major(trt) == 8 else engine.device_memory_size_v2)


def monitor_base(trt: Any) -> Any:
    """The class that a progress monitor derives from, or None: 8.6 has none."""
    return None if major(trt) == 8 else trt.IProgressMonitor
