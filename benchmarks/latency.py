"""Latency of generators and style encoders by backend, size and batch; all cases of one size are
interleaved."""

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
from mst_deploy.benchmarks.harness import Work, measure
from mst_deploy.benchmarks.op_counts import Work as GraphWork
from mst_deploy.benchmarks.op_counts import count, input_shapes
from mst_deploy.benchmarks.options import Plan
from mst_deploy.model.bundle import Bundle, Manifest, open_bundle

GENERATOR, ENCODER = "generator", "encoder"
STAGES = ("prepare", "compute", "finish")


@dataclass(frozen=True)
class Case:
    """One model part on one backend at one size and batch."""

    part: str
    """``generator`` or ``encoder``."""
    model: Path
    backend: str
    device: str
    size: tuple[int, int]
    """(width, height) in pixels."""
    batch: int

    @property
    def label(self) -> str:
        """Unique name of the case."""
        return f"{self.part} {self.backend} {self.model.name} {self.size[0]}x{self.size[1]} x{self.batch}"


class Stages:
    """Call of a generator that times each of its steps (seconds, by the names of STAGES)."""

    def __init__(self, generator: TimedBackend, frames: Any, film_params: Any) -> None:
        self.generator, self.frames, self.film_params = generator, frames, film_params
        self.seconds: dict[str, list[float]] = {name: [] for name in STAGES}

    def __call__(self) -> None:
        started = time.perf_counter()
        check_call(self.generator.manifest, self.frames, self.film_params)
        prepared = self.generator.prepare(self.frames, self.film_params)
        ready = time.perf_counter()
        computed = self.generator.compute(prepared)
        done = time.perf_counter()
        self.generator.finish(computed)
        for name, spent in zip(
            STAGES, (ready - started, done - ready, time.perf_counter() - done), strict=True
        ):
            self.seconds[name].append(spent)


def measure_cases(
    cases: Sequence[Case], plan: Plan, on_progress: Callable[[int], None] = lambda rounds: None
) -> list[dict[str, Any]]:
    """Measure all cases, interleaved; return one row per case: every timed call, the steps, and the graph's
    work.

    Raises the errors of opening a model; the caller decides whether the timings are reliable.
    """
    rows, items = [], {}
    with ExitStack() as opened:
        for case in cases:
            bundle = open_bundle(case.model)
            work, device = _opened(case, bundle, opened)
            items[case.label] = work
            rows.append(describe(case, bundle, device))
        times = measure(items, plan, on_progress=on_progress)
        for case, row in zip(cases, rows, strict=True):
            one, work = times[case.label], items[case.label]
            row.update(seconds=list(one.seconds), warmups=one.warmups, settled=one.settled)
            if isinstance(work, Stages):
                row["stages"] = {name: spent[one.warmups :] for name, spent in work.seconds.items()}
    return rows


def describe(case: Case, bundle: Bundle, device: str) -> dict[str, Any]:
    """Return the description of a case with the arithmetic and bytes of its graph."""
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
    """Count the exported graph as written: the same reference for every backend."""
    width, height = case.size
    pixels = (case.batch, height, width, 3)
    if case.part == GENERATOR:
        return work_of_generator(bundle, pixels)
    return _sums(count(bundle.style_encoder, {"style": pixels}))


def work_of_generator(bundle: Bundle, pixels: tuple[int, ...]) -> dict[str, int]:
    """Return multiply-adds and bytes for frames of the shape ``pixels``, (N, H, W, 3)."""
    return _sums(count(bundle.generator, input_shapes(bundle.manifest, pixels)))


def _sums(work: GraphWork) -> dict[str, int]:
    return {
        "multiply_adds": work.multiply_adds,
        "bytes": work.bytes,
        "least_bytes": work.least_bytes,
    }


def _opened(case: Case, bundle: Bundle, opened: ExitStack) -> tuple[Work, str]:
    """Return the function to time, and the device that it really runs on."""
    width, height = case.size
    frames = np.random.default_rng(0).integers(0, 256, (case.batch, height, width, 3), np.uint8)
    if case.part == ENCODER:
        encoder = open_style_encoder(bundle, case.backend, case.device)
        return (lambda: encoder(frames)), getattr(encoder, "device", "cpu")
    generator = opened.enter_context(open_generator(bundle, case.backend, case.device))
    film_params = _film_params(bundle.manifest, case.batch)
    if isinstance(generator, TimedBackend):
        return Stages(generator, frames, film_params), generator.device
    return _call(generator, frames, film_params), generator.device


def _call(generator: StylizeBackend, frames: Any, film_params: Any) -> Work:
    return lambda: generator(frames, film_params)


def _film_params(manifest: Manifest, batch: int) -> Any:
    return np.repeat(manifest.layout.identity()[None], batch, axis=0)
