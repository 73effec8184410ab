"""Latency of generators and style encoders, by backend, size and batch, everything at one size in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mst_deploy.backends import StylizeBackend, TimedBackend, check_call, open_generator, open_style_encoder
from mst_deploy.backends.registry import precision_of
from mst_deploy.benchmarks.harness import Plan, Work, measure
from mst_deploy.benchmarks.op_counts import Work as GraphWork
from mst_deploy.benchmarks.op_counts import count, input_shapes
from mst_deploy.model.bundle import Bundle, Manifest, open_bundle

GENERATOR, ENCODER = "generator", "encoder"
STAGES = ("prepare", "compute", "finish")


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    part: str
    """generator or encoder."""
    model: Path
    backend: str
    device: str
    size: tuple[int, int]
    """Width and height."""
    batch: int

    @property
    def label(self) -> str:
        return f"{self.part} {self.backend} {self.model.name} {self.size[0]}x{self.size[1]} x{self.batch}"


class Stages:
    """A call of a generator in its steps, each timed."""

    def __init__(self, generator: TimedBackend, frames: Any, films: Any) -> None:
        self.generator, self.frames, self.films = generator, frames, films
        self.seconds: dict[str, list[float]] = {name: [] for name in STAGES}

    def __call__(self) -> None:
        began = time.perf_counter()
        check_call(self.generator.manifest, self.frames, self.films)
        prepared = self.generator.prepare(self.frames, self.films)
        ready = time.perf_counter()
        computed = self.generator.compute(prepared)
        done = time.perf_counter()
        self.generator.finish(computed)
        for name, spent in zip(
            STAGES, (ready - began, done - ready, time.perf_counter() - done), strict=True
        ):
            self.seconds[name].append(spent)


def measure_cases(
    cases: Sequence[Case], plan: Plan, tell: Callable[[int], None] = lambda rounds: None
) -> list[dict[str, Any]]:
    """One row for each case, all measured in turns: every timed call, the steps, and the work of the graph.

    Raises what opening a model raises; noise is judged by the caller.
    """
    rows, things = [], {}
    with ExitStack() as opened:
        for case in cases:
            bundle = open_bundle(case.model)
            work, device = _opened(case, bundle, opened)
            things[case.label] = work
            rows.append(describe(case, bundle, device))
        times = measure(things, plan, tell=tell)
        for case, row in zip(cases, rows, strict=True):
            one, work = times[case.label], things[case.label]
            row.update(seconds=list(one.seconds), warmups=one.warmups, settled=one.settled)
            if isinstance(work, Stages):
                row["stages"] = {name: spent[one.warmups :] for name, spent in work.seconds.items()}
    return rows


def describe(case: Case, bundle: Bundle, device: str) -> dict[str, Any]:
    """What is measured, and the arithmetic and bytes of its graph."""
    return {
        "part": case.part,
        "model": bundle.manifest.name,
        "model_id": bundle.manifest.model_id,
        "backend": case.backend,
        "device": device,
        "precision": precision_of(case.backend, device, bundle.manifest.precision),
        "weights": bundle.manifest.precision,
        "size": f"{case.size[0]}x{case.size[1]}",
        "batch": case.batch,
        "work": work_of(case, bundle),
    }


def work_of(case: Case, bundle: Bundle) -> dict[str, int]:
    """Of the exported graph as written: the same yardstick for every backend."""
    width, height = case.size
    pixels = (case.batch, height, width, 3)
    if case.part == GENERATOR:
        return work_of_generator(bundle, pixels)
    return _sums(count(bundle.style_encoder, {"style": pixels}))


def work_of_generator(bundle: Bundle, pixels: tuple[int, ...]) -> dict[str, int]:
    """Multiply-adds and bytes for frames of the shape ``pixels``, (N, H, W, 3)."""
    return _sums(count(bundle.generator, input_shapes(bundle.manifest, pixels)))


def _sums(found: GraphWork) -> dict[str, int]:
    return {"multiply_adds": found.multiply_adds, "bytes": found.bytes, "least_bytes": found.least_bytes}


def _opened(case: Case, bundle: Bundle, opened: ExitStack) -> tuple[Work, str]:
    """What to call, and where it really runs."""
    width, height = case.size
    frames = np.random.default_rng(0).integers(0, 256, (case.batch, height, width, 3), np.uint8)
    if case.part == ENCODER:
        encoder = open_style_encoder(bundle, case.backend, case.device)
        return (lambda: encoder(frames)), getattr(encoder, "device", "cpu")
    generator = opened.enter_context(open_generator(bundle, case.backend, case.device))
    films = _films(bundle.manifest, case.batch)
    if isinstance(generator, TimedBackend):
        return Stages(generator, frames, films), generator.device
    return _call(generator, frames, films), generator.device


def _call(generator: StylizeBackend, frames: Any, films: Any) -> Work:
    return lambda: generator(frames, films)


def _films(manifest: Manifest, batch: int) -> Any:
    return np.repeat(manifest.layout.identity()[None], batch, axis=0)
