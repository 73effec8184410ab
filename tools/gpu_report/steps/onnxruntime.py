"""ONNX Runtime's CUDA provider: parity, latency, and the effect of options and graph passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import torch

from mst_deploy.onnx_passes.cpu import film_into_norm
from mst_deploy.onnx_passes.passes import fold_small_constants, to_float32, upsample_into_conv
from tools.gpu_report.inputs import Inputs, films_of, make_inputs, opened
from tools.gpu_report.networks import difference, names_of, reference
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record
from tools.gpu_report.timing import Budget, wall_times

EACH = 0.6
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
Pass = Callable[[onnx.ModelProto], object]
REWRITTEN: tuple[Pass, ...] = (fold_small_constants, upsample_into_conv)
FILMED: tuple[Pass, ...] = (fold_small_constants, film_into_norm)
BOTH: tuple[Pass, ...] = (fold_small_constants, film_into_norm, upsample_into_conv)
NHWC, GRAPH = {"prefer_nhwc": "1"}, {"enable_cuda_graph": "1"}


@dataclass(frozen=True)
class Variant:
    """Passes over the graph and options of the provider."""

    name: str
    passes: tuple[Pass, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = False
    """Whether the session gets a fixed size of the frames."""


SHIPPED = Variant("as shipped")
FIRST = (
    SHIPPED,
    Variant("all passes, NHWC, graph replay", BOTH, {**NHWC, **GRAPH}, fixed=True),
    Variant("all passes", BOTH),
    Variant("as shipped, NHWC", options=NHWC),
    Variant("all passes, NHWC", BOTH, NHWC),
)
MORE = (
    Variant("film into norm", FILMED),
    Variant("upsampling into convolution", REWRITTEN),
    Variant("as shipped, fixed size", fixed=True),
    Variant("as shipped, graph replay", options=GRAPH, fixed=True),
    Variant("all passes, graph replay", BOTH, GRAPH, fixed=True),
    Variant("as shipped, cuDNN exhaustive", options={"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    Variant("as shipped, cuDNN heuristic", options={"cudnn_conv_algo_search": "HEURISTIC"}),
    Variant("as shipped, fused bias", options={"fuse_conv_bias": "1"}),
    Variant("float32", (to_float32,)),
    Variant("float32, TF32 off", (to_float32,), {"use_tf32": "0"}),
)


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Measure the shipped graphs at every size, the variants at the main one, then the best of them
    everywhere."""
    library = import_module("onnxruntime")  # after torch, whose wheels hold CUDA and cuDNN
    provider = PROVIDERS[settings.device]
    record.fact("version", lambda: library.__version__)
    record.fact("providers", library.get_available_providers)
    if provider not in library.get_available_providers():
        raise RuntimeError(f"this ONNX Runtime ({library.__version__}) has no {provider}")
    if settings.cuda:
        record.fact("preload", library.preload_dlls)
        torch.zeros(1, device="cuda")
    pairs = [(model, size) for size in settings.sizes for model in settings.models]
    done = {}
    for model, size in pairs[: len(settings.models)]:
        for variant in FIRST:
            done[model, size, variant.name] = row(library, settings, record, model, size, variant)
    for model, size in pairs[len(settings.models) :]:
        row(library, settings, record, model, size, SHIPPED)
        row(library, settings, record, model, size, best(done, model))
    for model, size in pairs[: len(settings.models)]:
        for variant in MORE:
            row(library, settings, record, model, size, variant)


def best(done: Mapping[Any, Mapping[str, Any]], model: str) -> Variant:
    """Return the fastest of the first variants for a model among those with the right result."""
    times = {
        key[2]: one["bound_ms"]["p50"]
        for key, one in done.items()
        if key[0] == model and one.get("psnr_db", 0) > 35
    }
    name = min(times, key=lambda key: times[key], default=FIRST[1].name)
    return next(variant for variant in FIRST if variant.name == name)


def row(
    library: Any, settings: Settings, record: Record, model: str, size: tuple[int, int], variant: Variant
) -> dict[str, Any]:
    """Record one row of the report."""
    what = {"model": model, "size": size, "what": variant.name}
    return record.row(
        what, partial(measured, library, settings, model, size, variant), needs=settings.seconds(4.0)
    )


def measured(
    library: Any, settings: Settings, model: str, size: tuple[int, int], variant: Variant
) -> dict[str, Any]:
    """Measure latency on device buffers and end to end from arrays, and PSNR to PyTorch's float32."""
    inputs = make_inputs(names_of(model), size, films_of(opened(model))[0])
    session = open_session(library, settings, model, inputs, variant)
    (output,) = session.get_outputs()
    seconds = settings.seconds(EACH)
    place = ("cuda", 0) if settings.cuda else ("cpu", 0)
    values = {name: library.OrtValue.ortvalue_from_numpy(array, *place) for name, array in inputs.items()}
    shape = inputs["frames"].shape
    result = library.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, *place)
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_ortvalue_output(output.name, result)

    def bound() -> None:
        session.run_with_iobinding(binding)

    times = wall_times(bound, Budget(seconds), lambda: None)
    found: dict[str, Any] = {"bound_ms": times.pop("call_ms"), **times}
    found |= difference(reference(model, size, settings.device), torch.from_numpy(result.numpy()))
    if "enable_cuda_graph" not in variant.options:  # a captured graph takes bound buffers only
        arrays = wall_times(lambda: session.run([output.name], inputs), Budget(seconds), lambda: None)
        found["end_to_end"] = arrays["call_ms"]
    else:

        def copied() -> None:
            for name, value in values.items():
                value.update_inplace(inputs[name])
            session.run_with_iobinding(binding)
            result.numpy()

        found["end_to_end"] = wall_times(copied, Budget(seconds), lambda: None)["call_ms"]
    return found


def open_session(library: Any, settings: Settings, model: str, inputs: Inputs, variant: Variant) -> Any:
    """Open a session that really runs on the device. Raises RuntimeError where ONNX Runtime fell back."""
    graph = onnx.load(opened(model).generator)
    for change in variant.passes:
        change(graph)
    options = library.SessionOptions()
    options.log_severity_level = 2  # warnings: which nodes the provider does not take
    if variant.fixed:
        for value in graph.graph.input:
            dims = value.type.tensor_type.shape.dim
            for dim, length in zip(dims, inputs[value.name].shape, strict=True):
                if dim.dim_param:
                    options.add_free_dimension_override_by_name(dim.dim_param, length)
    chosen = dict(variant.options) if settings.cuda else {}
    provider = PROVIDERS[settings.device]
    session = library.InferenceSession(graph.SerializeToString(), options, providers=[(provider, chosen)])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"asked for {provider}, got {session.get_providers()[0]}")
    return session
