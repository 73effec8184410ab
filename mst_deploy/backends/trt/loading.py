"""TensorRT's engines from their files, and what TensorRT says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import Engine
from mst_deploy.backends.trt.flags import STRIPPED, VERSION_COMPATIBLE
from mst_deploy.errors import BackendError

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
            "run mst doctor, and build the engine again with [mst build: force]"
        )
    return runtime, engine
