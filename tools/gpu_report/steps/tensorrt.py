"""Every edition of TensorRT that can be imported: engines built by the project's builder, opened, compared,
timed.

Frames stay in PyTorch's tensors, so neither pycuda nor the project's own device memory is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import ShapeRange
from mst_deploy.backends.trt.loading import collecting_logger
from mst_deploy.engines.build import build_plan, parse, profile_for
from mst_deploy.engines.options import BuildOptions
from mst_deploy.onnx_passes.trt import for_tensorrt
from tools.gpu_report.inputs import films_of, make_inputs, opened
from tools.gpu_report.networks import difference, names_of, on_device, reference
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record, reason
from tools.gpu_report.timing import Budget, device_times, wall_times

CUDA: Any = torch.cuda  # parts of it have no types

FLAVORS = ("tensorrt", "tensorrt_rtx")
RTX = "tensorrt_rtx"
TARGET = "SM80"
EACH = 1.2
LINES = 12  # of TensorRT's own words kept


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Record the versions, then measure engines of each: both models, the most important size first."""
    flavors = {}
    for name in FLAVORS:
        found = record.fact(name, partial(version_of, name))
        if found is not None:
            flavors[name] = import_module(name)
    if not flavors:
        raise RuntimeError(f"none of {', '.join(FLAVORS)} can be imported")
    if settings.cuda:
        torch.zeros(1, device="cuda")
    for name, trt in flavors.items():
        if name == RTX:
            for target in (TARGET, None):
                plan = {"flavor": name, "what": "plan opened", "target": target or "default"}
                record.row(plan, partial(portable, trt, settings, settings.models[-1], target), needs=5.0)
    for size in settings.sizes:
        for name, trt in flavors.items():
            for model in settings.models:
                what = {"flavor": name, "model": model, "size": size, "what": "engine"}
                needs = 5.0 if name == RTX else 25.0
                record.row(what, partial(engine, trt, settings, model, size), needs=needs)


def version_of(name: str) -> str:
    """Return the version of a package. Raises the errors of importing it."""
    return str(import_module(name).__version__)


def engine(trt: Any, settings: Settings, model: str, size: tuple[int, int]) -> dict[str, Any]:
    """Build with the project's builder, then open, compare and time."""
    bundle, began = opened(model), time.monotonic()
    graph = for_tensorrt(bundle.generator, compat.major(trt))
    manifest = bundle.manifest
    built = build_plan(
        trt,
        graph,
        manifest.film_size,
        manifest.precision,
        _fixed(size),
        BuildOptions(),
        b"",
        lambda share, note: None,
        canvas=bool(manifest.canvas_bands),
    )
    found: dict[str, Any] = {"build_s": round(time.monotonic() - began, 2), "plan_bytes": len(built.plan)}
    return found | opened_and_run(trt, collecting_logger(trt), settings, model, size, built.plan)


def portable(trt: Any, settings: Settings, model: str, target: str | None) -> dict[str, Any]:
    """Build a plan of TensorRT for RTX for one compute capability and try it on this GPU."""
    size, logger, began = settings.main_size, collecting_logger(trt), time.monotonic()
    bundle = opened(model)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parse(trt, network, logger, for_tensorrt(bundle.generator, compat.major(trt)))
    config = builder.create_builder_config()
    if target is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
    config.add_optimization_profile(
        profile_for(
            builder, _fixed(size), bundle.manifest.film_size, canvas=bool(bundle.manifest.canvas_bands)
        )
    )
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(f"no plan: {logger.lines[-LINES:]}")
    plan = bytes(plan)
    found: dict[str, Any] = {"build_s": round(time.monotonic() - began, 2), "plan_bytes": len(plan)}
    runtime = trt.Runtime(logger)
    try:
        found["validity"] = str(runtime.get_engine_validity(plan))
    except Exception as error:
        found["validity"] = reason(error)
    found["said"] = list(logger.lines[-LINES:])
    logger.lines.clear()
    return found | opened_and_run(trt, logger, settings, model, size, plan)


def opened_and_run(
    trt: Any, logger: Any, settings: Settings, model: str, size: tuple[int, int], plan: bytes
) -> dict[str, Any]:
    """Open a plan and run it; return results, and for each failure TensorRT's own message."""
    found: dict[str, Any] = {}
    began = time.monotonic()
    runtime = trt.Runtime(logger)
    try:
        plan_opened = runtime.deserialize_cuda_engine(plan)
        if plan_opened is None:
            return {"opened": False, "said_when_opened": list(logger.lines[-LINES:])}
        found = {"opened": True, "open_s": round(time.monotonic() - began, 2)}
        return found | run(trt, plan_opened, settings, model, size)
    except Exception as error:
        return {**found, "failed": reason(error), "said_when_opened": list(logger.lines[-LINES:])}


def run(trt: Any, engine: Any, settings: Settings, model: str, size: tuple[int, int]) -> dict[str, Any]:
    """Measure PSNR to PyTorch's float32, device time eager and replayed, and time end to end."""
    began = time.monotonic()
    context = engine.create_execution_context()
    if context is None:
        raise RuntimeError("no execution context")
    inputs = make_inputs(names_of(model), size, films_of(opened(model))[0])
    tensors = on_device(inputs, settings.device)
    stylized = torch.zeros(inputs["frames"].shape, dtype=torch.uint8, device=settings.device)
    for name, tensor in tensors.items():
        context.set_input_shape(name, tuple(tensor.shape))
    for name, tensor in {**tensors, "stylized": stylized}.items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = CUDA.Stream()

    def enqueue() -> None:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT could not start the engine")

    found: dict[str, Any] = {}
    torch.cuda.synchronize()  # what fills the tensors runs on another stream
    with torch.cuda.stream(stream):
        enqueue()
        torch.cuda.synchronize()
        found["first_frame_s"] = round(time.monotonic() - began, 3)
        result = stylized.clone()
        found |= difference(reference(model, size, settings.device), result)
        found["device_memory_mib"] = round(compat.device_memory(trt, engine) / 2**20, 1)
        budget = Budget(settings.seconds(EACH))
        found |= device_times(enqueue, budget, settings.device)
        found["end_to_end"] = end_to_end(enqueue, inputs["frames"], tensors["frames"], stylized, budget)
        try:
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured, stream=stream):
                enqueue()
            times = device_times(captured.replay, budget, settings.device)
            found["replayed"] = times.get("device_ms") or times["call_ms"]
            found["replayed_is_the_same"] = bool(torch.equal(stylized, result))
        except Exception as error:
            found["replayed"] = reason(error)
    return found


def end_to_end(
    enqueue: Callable[[], None], frames: Any, target: Any, stylized: Any, budget: Budget
) -> dict[str, Any]:
    """Process one frame from pinned memory to pinned memory and wait for it."""
    source = torch.from_numpy(frames).pin_memory()
    back = torch.empty(stylized.shape, dtype=stylized.dtype).pin_memory()

    def call() -> None:
        target.copy_(source, non_blocking=True)
        enqueue()
        back.copy_(stylized, non_blocking=True)

    return wall_times(call, budget, torch.cuda.synchronize)["call_ms"]  # type: ignore[no-any-return]


def _fixed(size: tuple[int, int]) -> ShapeRange:
    shape = (1, size[1], size[0])
    return ShapeRange(shape, shape, shape)
