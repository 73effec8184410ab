"""Profile of one frame: kernels, layers, and the fraction of the roofline."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import nn

from mst_deploy.benchmarks.op_counts import count
from mst_deploy.model.networks import FilmNorm, PaddedConv
from tools.gpu_report.inputs import films_of, make_inputs, opened
from tools.gpu_report.networks import caller, generator, names_of, on_device, switches
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record
from tools.gpu_report.timing import Budget, device_times

CUDA: Any = torch.cuda  # parts of it have no types

FRAMES = 5
TOP = 15


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Record all profiles of each model at the main size."""
    for model in settings.models:
        size = settings.main_size
        for what, measure in (("roofline", roofline), ("kernels", kernels), ("layers", layers)):
            row = {"model": model, "size": size, "what": what}
            record.row(row, partial(measure, settings, model, size, before), settings.seconds(2.0))


def prepared(settings: Settings, model: str, size: tuple[int, int]) -> tuple[nn.Module, Any]:
    """Return the generator in float16, channels last, and its inputs on the device."""
    inputs = make_inputs(names_of(model), size, films_of(opened(model))[0])
    graph = generator(model, settings.device, torch.float16, channels_last=True)
    return graph, on_device(inputs, settings.device)


def roofline(settings: Settings, model: str, size: tuple[int, int], before: dict[str, Any]) -> dict[str, Any]:
    """Return multiply-adds and bytes of the graph, the time of a frame, and its fraction of the measured
    roofline."""
    graph, tensors = prepared(settings, model, size)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    work = count(opened(model).generator, shapes)
    with switches():
        times = device_times(caller(graph, tensors), Budget(settings.seconds(1.0)), settings.device)
    seconds = (times.get("device_ms") or times["call_ms"])["p50"] / 1000
    found = {
        "multiply_adds": work.multiply_adds,
        "bytes": work.bytes,
        "least_bytes": work.least_bytes,
        "flops_per_s": 2 * work.multiply_adds / seconds,
        **times,
    }
    rate = _rate(before)
    copied = (before.get("copies") or {}).get("within")
    if rate:
        found["share_of_product_rate"] = round(work.multiply_adds / seconds / rate, 4)
    if copied:
        found["share_of_copy_rate"] = round(work.least_bytes / seconds / copied, 4)
    if rate and copied:
        least = max(work.multiply_adds / rate, work.least_bytes / copied)
        found |= {"least_ms": round(1000 * least, 4), "share_of_roofline": round(least / seconds, 4)}
    return found


def kernels(settings: Settings, model: str, size: tuple[int, int], before: dict[str, Any]) -> dict[str, Any]:
    """Return the kernels that take most of the time, in milliseconds per frame, with their kind."""
    graph, tensors = prepared(settings, model, size)
    call = caller(graph, tensors)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if settings.cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with switches():
        for _ in range(3):
            call()
        _wait(settings)
        began = time.perf_counter()
        with torch.profiler.profile(activities=activities) as profile:
            for _ in range(FRAMES):
                call()
            _wait(settings)
    events = profile.key_averages()
    rows = [
        (str(event.key), _own_ms(event, settings), int(event.count))
        for event in events
        if _is_kernel(event, settings)
    ]
    rows.sort(key=lambda one: -one[1])
    kinds: Counter[str] = Counter()
    for name, ms, _ in rows:
        kinds[kind_of(name)] += ms / FRAMES  # type: ignore[assignment]
    top = [
        {"kernel": name[:160], "ms_a_frame": round(ms / FRAMES, 4), "calls_a_frame": calls / FRAMES}
        for name, ms, calls in rows[:TOP]
    ]
    total = sum(ms for _, ms, _ in rows) / FRAMES
    launches = sum(calls for _, _, calls in rows) / FRAMES
    return {
        "kernels_ms_a_frame": round(total, 4),
        "top": top,
        "launches_a_frame": launches,
        "by_kind_ms": {kind: round(ms, 4) for kind, ms in kinds.most_common()},
        "profiled_s": round(time.perf_counter() - began, 2),
    }


def layers(settings: Settings, model: str, size: tuple[int, int], before: dict[str, Any]) -> dict[str, Any]:
    """Return milliseconds of every convolution (with its padding) and every norm, by events around each."""
    graph, tensors = prepared(settings, model, size)
    call = caller(graph, tensors)
    watched = {
        name: module for name, module in graph.named_modules() if isinstance(module, PaddedConv | FilmNorm)
    }
    marks: dict[str, list[Any]] = {name: [] for name in watched}
    shapes: dict[str, tuple[int, ...]] = {}

    def began(name: str, module: nn.Module, args: Any) -> None:
        shapes[name] = tuple(args[0].shape)
        marks[name].append(_mark(settings))

    def ended(name: str, module: nn.Module, args: Any, result: Any) -> None:
        marks[name].append(_mark(settings))

    for name, module in watched.items():
        module.register_forward_pre_hook(partial(began, name))
        module.register_forward_hook(partial(ended, name))
    with switches():
        for _ in range(3):
            call()
        for found in marks.values():
            found.clear()
        for _ in range(FRAMES):
            call()
        _wait(settings)
    rate, rows = _rate(before), []
    for name, module in watched.items():
        spent = [_between(settings, *marks[name][i : i + 2]) for i in range(0, 2 * FRAMES, 2)]
        ms = sorted(spent)[len(spent) // 2]
        row = {"layer": name.removeprefix("generator."), "input": shapes[name], "ms": round(ms, 4)}
        if isinstance(module, PaddedConv):
            batch, channels, height, width = shapes[name]
            outputs = batch * -(-height // module.stride[0]) * -(-width // module.stride[1])
            adds = outputs * module.out_channels * channels * module.kernel_size[0] * module.kernel_size[1]
            row |= {"gflop_per_s": round(2 * adds / max(ms, 1e-6) / 1e6, 1)}
            if rate:
                row["share_of_product_rate"] = round(1000 * adds / max(ms, 1e-6) / rate, 4)
        rows.append(row)
    sums: Counter[str] = Counter()
    for row, module in zip(rows, watched.values(), strict=True):
        sums[type(module).__name__] += row["ms"]
    return {"sums_ms": sums, "layers": rows}


def kind_of(kernel: str) -> str:
    """Return the kind of a kernel, by its name."""
    name = kernel.lower()
    kinds = {
        "convolution": ("convol", "xmma", "cutlass", "gemm", "fprop", "dgrad", "wgrad", "mkldnn"),
        "norm": ("norm", "welford", "reduce", "mean", "var"),
        "padding": ("reflection", "pad"),
        "upsampling": ("upsample",),
        "copies and layout": ("copy", "memcpy", "nchw", "nhwc", "transpose", "contiguous", "cat"),
        "elementwise": ("elementwise", "vectorized", "triton", "add", "mul", "relu", "sigmoid"),
    }
    return next((kind for kind in kinds if any(word in name for word in kinds[kind])), "other")


def _rate(before: dict[str, Any]) -> float | None:
    """Return multiply-adds per second of float16 products as measured by the step ``machine``."""
    found = before.get("products") or {}
    rates = [found[kind] for kind in ("fp16", "bf16") if kind in found]
    return max(rates, default=None)


def _is_kernel(event: Any, settings: Settings) -> bool:
    kind = str(getattr(event, "device_type", ""))
    return kind.endswith("CUDA") if settings.cuda else True


def _own_ms(event: Any, settings: Settings) -> float:
    name = "self_device_time_total" if settings.cuda else "self_cpu_time_total"
    return float(getattr(event, name)) / 1000


def _mark(settings: Settings) -> Any:
    if not settings.cuda:
        return time.perf_counter()
    event = CUDA.Event(enable_timing=True)
    event.record()
    return event


def _between(settings: Settings, a: Any, b: Any) -> float:
    """Return the milliseconds between two events."""
    return float(a.elapsed_time(b)) if settings.cuda else 1000 * (b - a)


def _wait(settings: Settings) -> None:
    if settings.cuda:
        torch.cuda.synchronize()
