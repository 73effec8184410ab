"""PyTorch, eager and compiled: device time, time end to end with copies, change of style."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from tools.gpu_report.inputs import Inputs, films_of, make_inputs, opened
from tools.gpu_report.networks import (
    NORMS,
    caller,
    difference,
    generator,
    names_of,
    norms,
    on_device,
    reference,
    replayed,
    switches,
)
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record
from tools.gpu_report.timing import Budget, device_times, wall_times

CUDA: Any = torch.cuda  # parts of it have no types

EACH = 0.45  # seconds for each figure
COMPILING = 45.0  # seconds left, below which nothing is compiled; grows with what compiling really took
COMPILED_PIXELS = 1920 * 1080  # larger frames are not compiled for: the time is spent better


@dataclass(frozen=True)
class Variant:
    """A way to run the generator."""

    name: str
    dtype: torch.dtype = torch.float16
    channels_last: bool = True
    benchmark: bool = True
    tf32: bool = True
    norm: str = ""
    """A name of ``NORMS``; "" for the project's own."""
    compiled: bool = False
    replay: bool = False
    pipelined: bool = False
    """Whether to overlap copies of one frame with the kernels of another, end to end."""

    def around(self) -> AbstractContextManager[Any]:
        """Replace the norm's formula inside the block."""
        return norms(NORMS[self.norm]) if self.norm else nullcontext()


CHANNELS_LAST = Variant("fp16 channels-last")
FIRST = (
    CHANNELS_LAST,
    Variant("fp16 as is", channels_last=False, benchmark=False),
    Variant("fp32 as is", torch.float32, channels_last=False, benchmark=False),
)
GRAPH = Variant("fp16 channels-last, graph replay", replay=True)
PIPELINED = Variant("fp16 channels-last, pipelined", pipelined=True)
COMPILED = Variant("fp16 channels-last, compiled", compiled=True)
MORE = (
    Variant("fp16 channels-last, one-pass norm", norm="one_pass"),
    Variant("fp16 contiguous, cuDNN benchmark", channels_last=False),
    Variant("fp16 channels-last, one-pass norm, graph replay", norm="one_pass", replay=True),
    Variant("bf16 channels-last", torch.bfloat16),
    Variant("fp32 channels-last", torch.float32),
    Variant("fp32 without TF32", torch.float32, channels_last=False, tf32=False),
)
LAST = (
    Variant("fp16 channels-last, compiled, graph replay", compiled=True, replay=True),
    Variant("fp16 channels-last, compiled, two moments", norm="two_moments", compiled=True),
)


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Measure the most important figures first: the usual variants, then compiled ones, then further
    optimizations."""
    pairs = [(model, size) for size in settings.sizes for model in settings.models]
    main, others = pairs[: len(settings.models)], pairs[len(settings.models) :]
    for model, size in main:
        for variant in (*FIRST, GRAPH, PIPELINED):
            row(settings, record, model, size, variant)
        record.row(
            {"model": model, "size": size, "what": "change of style"},
            partial(style_change, settings, model, size),
            settings.seconds(3.0),
        )
    needs = compiled(settings, record, main[:1], COMPILING)
    for model, size in others:
        for variant in (*FIRST, GRAPH):
            row(settings, record, model, size, variant)
    needs = compiled(settings, record, [*main[1:], *others], needs)
    for model, size in pairs:
        for variant in MORE:
            row(settings, record, model, size, variant)
    for variant in LAST:
        row(settings, record, settings.models[0], settings.main_size, variant, needs)


def compiled(
    settings: Settings, record: Record, pairs: Sequence[tuple[str, tuple[int, int]]], needs: float
) -> float:
    """Record rows of the compiled generator at moderate sizes; return the seconds that the next will take."""
    for model, size in pairs:
        if size[0] * size[1] <= COMPILED_PIXELS:
            found = row(settings, record, model, size, COMPILED, needs)
            if "compiling_s" in found:
                needs = max(8.0, 1.4 * found["took_s"])
    return needs


def row(
    settings: Settings,
    record: Record,
    model: str,
    size: tuple[int, int],
    variant: Variant,
    needs: float = 3.0,
) -> dict[str, Any]:
    """Record one row of the report."""
    what = {"model": model, "size": size, "what": variant.name}
    if (variant.replay or variant.pipelined) and not settings.cuda:
        return what
    needs = needs if variant.compiled else settings.seconds(needs)
    return record.row(what, partial(measured, settings, model, size, variant), needs)


def measured(settings: Settings, model: str, size: tuple[int, int], variant: Variant) -> dict[str, Any]:
    """Measure device time, time end to end, PSNR to float32 and memory."""
    device = settings.device
    inputs = make_inputs(names_of(model), size, films_of(opened(model))[0])
    seconds = settings.seconds(EACH)
    if settings.cuda:
        torch.cuda.reset_peak_memory_stats()
    with switches(tf32=variant.tf32, benchmark=variant.benchmark), variant.around():
        graph: Callable[..., Any] = generator(
            model, device, variant.dtype, channels_last=variant.channels_last
        )
        found: dict[str, Any] = {}
        if variant.compiled:
            torch.compiler.reset()
            graph = torch.compile(graph, dynamic=False)
        tensors = on_device(inputs, device)
        began = time.perf_counter()
        first = caller(graph, tensors)()
        result = first.clone()
        if variant.compiled:
            found["compiling_s"] = round(time.perf_counter() - began, 1)
        if variant.replay:
            work, written = replayed(graph, tensors)
            work()
            result = written.clone()
        else:
            work, written = caller(graph, tensors), first  # type: ignore[assignment]
        if variant.pipelined:
            found |= pipelined(work, tensors, inputs, seconds)
        else:
            found |= device_times(work, Budget(seconds), device)
        found["end_to_end"] = end_to_end(work, tensors, inputs, written, seconds, settings, variant)
    if settings.cuda:  # before the reference, which needs more
        found["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    found |= difference(reference(model, size, device), result)
    return found


def end_to_end(
    work: Callable[[], Any],
    tensors: dict[str, torch.Tensor],
    inputs: Inputs,
    written: torch.Tensor,
    seconds: float,
    settings: Settings,
    variant: Variant,
) -> dict[str, Any]:
    """Process one frame from pinned memory to pinned memory and wait for it: copy in, generator, copy out."""
    pinned = settings.cuda
    source = {name: torch.from_numpy(array) for name, array in inputs.items() if name != "film"}
    if pinned:
        source = {name: tensor.pin_memory() for name, tensor in source.items()}
    target = torch.empty(written.shape, dtype=written.dtype)
    target = target.pin_memory() if pinned else target

    def call() -> None:
        with torch.inference_mode():
            for name, tensor in source.items():
                tensors[name].copy_(tensor, non_blocking=True)
            stylized = work()
            target.copy_(written if variant.replay else stylized, non_blocking=True)

    wait = torch.cuda.synchronize if settings.cuda else lambda: None
    return wall_times(call, Budget(seconds), wait)["call_ms"]  # type: ignore[no-any-return]


def pipelined(
    work: Callable[[], Any], tensors: dict[str, torch.Tensor], inputs: Inputs, seconds: float
) -> dict[str, Any]:
    """Process frames from and to host arrays, two in flight: copies overlap kernels.

    Return milliseconds per frame over all of them, and the fraction of it that only the kernels would take.
    """
    copy_in, compute, copy_out = (CUDA.Stream() for _ in range(3))
    frames = inputs["frames"]
    slots: list[dict[str, Any]] = [
        {
            "in": torch.from_numpy(frames).pin_memory(),
            "device": torch.empty_like(tensors["frames"]),
            "out": torch.from_numpy(frames).pin_memory(),
            "arrived": CUDA.Event(),
            "computed": CUDA.Event(),
            "returned": CUDA.Event(),
        }
        for _ in range(2)
    ]
    taken = np.empty_like(frames)

    def submit(slot: dict[str, Any]) -> None:
        slot["in"].numpy()[:] = frames
        with torch.cuda.stream(copy_in):
            copy_in.wait_event(slot["computed"])
            slot["device"].copy_(slot["in"], non_blocking=True)
            slot["arrived"].record()
        with torch.cuda.stream(compute):
            compute.wait_event(slot["arrived"])
            compute.wait_event(slot["returned"])
            tensors["frames"] = slot["device"]
            slot["result"] = work()
            slot["computed"].record()
        with torch.cuda.stream(copy_out):
            copy_out.wait_event(slot["computed"])
            slot["out"].copy_(slot["result"], non_blocking=True)
            slot["returned"].record()

    def passed(count: int) -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            for number in range(count):
                if number >= len(slots):
                    done = slots[number % len(slots)]
                    done["returned"].synchronize()
                    np.copyto(taken, done["out"].numpy())
                submit(slots[number % len(slots)])
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / count

    once = passed(6)
    return {"frame_ms": round(1000 * passed(max(10, int(2 * seconds / once))), 4)}


def style_change(settings: Settings, model: str, size: tuple[int, int]) -> dict[str, Any]:
    """Compare a new FiLM vector in every call with a constant one: milliseconds of alternating calls, and of
    the copy."""
    device = settings.device
    vectors = [torch.from_numpy(film[None]) for film in films_of(opened(model))]
    if settings.cuda:
        vectors = [vector.pin_memory() for vector in vectors]
    graph = generator(model, device, torch.float16, channels_last=True)
    tensors = on_device(make_inputs(names_of(model), size, vectors[0][0].numpy()), device)
    call, wait = caller(graph, tensors), torch.cuda.synchronize if settings.cuda else lambda: None
    turn = iter(range(10**9))

    def changed() -> None:
        with torch.inference_mode():
            tensors["film"].copy_(vectors[next(turn) % len(vectors)], non_blocking=True)
        call()

    budget = Budget(settings.seconds(EACH))
    with switches():
        same = wall_times(call, budget, wait)["call_ms"]
        other = wall_times(changed, budget, wait)["call_ms"]
    copy = wall_times(
        lambda: tensors["film"].copy_(vectors[next(turn) % len(vectors)], non_blocking=True),
        Budget(settings.seconds(0.1)),
        wait,
    )["call_ms"]
    return {
        "same_style_ms": same,
        "new_style_ms": other,
        "copy_ms": copy,
        "change_ms": round(other["p50"] - same["p50"], 4),
    }
