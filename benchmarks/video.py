"""Measure video jobs from file to file, stage by stage, interleaved with the generator alone.

A run is a whole job on a real clip, from opening it to the closed result. Before each run the generator is
called alone for a few frames of the same size, so that both are measured under the same conditions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mst_deploy.backends.registry import precision_of
from mst_deploy.benchmarks import reports
from mst_deploy.benchmarks.harness import measure
from mst_deploy.benchmarks.latency import work_of_generator
from mst_deploy.benchmarks.options import DEFAULT_BACKENDS, Plan, VideoRequest
from mst_deploy.benchmarks.statistics import estimated, ratio_of_turns
from mst_deploy.errors import InvalidArgument
from mst_deploy.jobs.render_file import RenderResult
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.size import Size
from mst_deploy.styles.plan import constant_plan
from mst_deploy.stylizer import Stylizer
from mst_deploy.video.info import VideoInfo
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import default_suffix

ALONE = 4  # calls of the generator alone before each run
HEAD = (
    "what",
    "size",
    "batch",
    "ms a frame",
    "frames a second",
    "of the generator alone",
    "limit",
    "of the machine",
)


class Case:
    """One model, backend and size with its runs so far."""

    def __init__(
        self, request: VideoRequest, info: VideoInfo, bundle: Bundle, backend: str, size: str
    ) -> None:
        self.request, self.info, self.bundle, self.backend = request, info, bundle, backend
        self.options = replace(request.job(), size=Size.parse(size) if size else Size())
        self.size = self.options.size.applied(info.width, info.height)
        width, height = self.size
        rng = np.random.default_rng(0)
        self.frames = rng.integers(0, 256, (self.options.batch, height, width, 3), np.uint8)
        self.stylizer: Stylizer
        self.alone: list[float] = []
        self.results: list[RenderResult] = []

    @property
    def label(self) -> str:
        """Unique name of the case."""
        return f"{self.bundle.path} {self.backend} {self.size}"

    def call(self) -> None:
        """Run one batch through the generator alone."""
        film = self.stylizer.manifest.layout.identity()
        self.stylizer.backend(self.frames, np.repeat(film[None], len(self.frames), axis=0))

    def turn(self, folder: Path) -> None:
        """Run the generator alone, then a whole job."""
        started = time.perf_counter()
        for _ in range(ALONE):
            self.call()
        self.alone.append((time.perf_counter() - started) / ALONE / self.options.batch)
        output = folder / f"out{default_suffix(self.info)}"
        style_plan = constant_plan(self.stylizer.manifest.layout.identity(), self.stylizer.manifest)
        self.results.append(self.stylizer.file(self.request.clip, output, style_plan, self.options))
        output.unlink()

    def row(self) -> dict[str, Any]:
        """Return the row of the report. ``seconds`` are per frame, one for each run."""
        width, height = self.size
        last, manifest = self.results[-1], self.bundle.manifest
        seconds = [result.seconds / result.frames for result in self.results]
        worked = {
            stage: [result.stages[stage] * result.seconds / result.frames for result in self.results]
            for stage in last.stages
        }
        return {
            "part": f"video {self.request.clip.name}, {last.frames} frames to {last.encoder}",
            "model": manifest.name,
            "model_id": manifest.model_id,
            "backend": self.backend,
            "device": self.stylizer.device,
            "weights": manifest.precision,
            "precision": precision_of(self.backend, self.stylizer.device, manifest.precision),
            "size": f"{width}x{height}",
            "batch": self.options.batch,
            "frames": last.frames,
            "decoder": last.decoder,
            "encoder": last.encoder,
            "work": work_of_generator(self.bundle, (1, height, width, 3)),
            "seconds": seconds,
            "alone": self.alone,
            "worked": worked,
            "limit": last.limit,
        }


def info_of(request: VideoRequest) -> VideoInfo:
    """Return the properties of the clip. Raises InputError, InvalidArgument."""
    with VideoReader(request.clip, request.job().read) as reader:
        return reader.info


def measure_video(
    request: VideoRequest, plan: Plan, on_progress: Callable[[int], None] = lambda runs: None
) -> list[dict[str, Any]]:
    """Return one row for each model, backend and size after ``plan.most`` runs of each.

    Raises the errors of opening a clip or a model; the caller decides whether the timings are reliable.
    """
    info = info_of(request)
    with ExitStack() as opened:
        cases = []
        models = [resolve_model(model) for model in request.models or (None,)]
        backends = request.backends or DEFAULT_BACKENDS
        for path, backend, size in product(models, backends, request.sizes or ("",)):
            cases.append(case := Case(request, info, open_bundle(path), backend, size))
            session = Stylizer(case.bundle.path, backend=backend, device=request.device)
            case.stylizer = opened.enter_context(session)
        if len({case.label for case in cases}) < len(cases):
            raise InvalidArgument("two of the cases are the same; name each model, backend and size once")
        warm = measure({case.label: case.call for case in cases}, replace(plan, min_runs=2, most=2))
        folder = Path(opened.enter_context(TemporaryDirectory()))
        order = np.random.default_rng(0)
        for run in range(plan.most):
            for index in order.permutation(len(cases)):
                cases[index].turn(folder)
            on_progress(run + 1)
        return [
            {**case.row(), "warmups": warm[case.label].warmups, "settled": warm[case.label].settled}
            for case in cases
        ]


def cells(row: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Return one line of the table, in the order of ``HEAD``."""
    confidence = report["plan"]["confidence"]
    mean = estimated(row["seconds"], confidence)
    share = reports.share_of_machine(row, mean.mean, reports.roofline_of(report))
    alone = ratio_of_turns(row["seconds"], row["alone"], confidence).value
    return [
        f"{row['model']}, {row['backend']} ({row['device']}, {row['precision']})",
        row["size"],
        str(row["batch"]),
        f"{1000 * mean.mean:.1f} ± {1000 * (mean.high - mean.low) / 2:.1f}",
        f"{1 / mean.mean:.2f}",
        f"{alone:.0%}",
        row["limit"],
        "-" if share is None else f"{share:.0%}",
    ]


def stages(row: dict[str, Any]) -> str:
    """Return the time that each stage worked per frame, and its share of the total time."""
    whole = float(np.mean(row["seconds"]))
    parts = [
        f"{name} {1000 * np.mean(spent):.1f} ms ({np.mean(spent) / whole:.0%})"
        for name, spent in row["worked"].items()
    ]
    return f"{row['backend']} {row['size']}, work on a frame, side by side: {', '.join(parts)}"
