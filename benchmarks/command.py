"""Implementation of the commands ``mst bench ...``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from mst_deploy.backends import load_backend
from mst_deploy.backends.registry import split_precision
from mst_deploy.benchmarks import compare, reports
from mst_deploy.benchmarks.cold_start import cold_start, middle
from mst_deploy.benchmarks.environment import background_load, environment_info, refuse_busy_machine
from mst_deploy.benchmarks.harness import Times, checked
from mst_deploy.benchmarks.latency import ENCODER, GENERATOR, Case, measure_cases
from mst_deploy.benchmarks.op_counts import Work, count, input_shapes
from mst_deploy.benchmarks.options import DEFAULT_BACKENDS, Plan, Request, VideoRequest, WorkOptions
from mst_deploy.benchmarks.roofline import measure_roofline
from mst_deploy.errors import InvalidArgument, MissingDependency
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.reporter import SILENT, Reporter
from mst_deploy.size import Size

COLD_STARTS = 3


def latency(request: Request, plan: Plan, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Measure latencies and return the report.

    Raises NoisyMachine if the timings are not reliable, and the errors of opening a model.
    """
    groups = cases_of(request)
    ready(request.backends or DEFAULT_BACKENDS, plan)
    rows: list[dict[str, Any]] = []
    with background_load() as load:
        for cases in groups:
            label = f"measuring {cases[0].size[0]}x{cases[0].size[1]}"
            with reporter.progress(label, None) as on_progress:
                rows += measure_cases(cases, plan, on_progress)
    require_reliable(rows, plan, load.share)
    if request.cold:
        with reporter.progress("cold starts", None):
            add_cold_starts(rows, [case for cases in groups for case in cases])
    ceilings = None
    if request.ceilings:
        with reporter.progress("what this machine can do", None):
            ceilings = asdict(measure_roofline("cuda" if rows[0]["device"] == "cuda" else "cpu"))
    return {
        **environment_info(),
        "plan": asdict(plan),
        "load": load.share,
        "ceilings": ceilings,
        "rows": rows,
    }


def video(request: VideoRequest, plan: Plan, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Measure whole video jobs and return the report.

    Raises NoisyMachine if the timings are not reliable, and the errors of opening the clip and the models.
    """
    from mst_deploy.benchmarks.video import info_of, measure_video  # here: only videos need PyAV

    info_of(request)
    ready(request.backends or DEFAULT_BACKENDS, plan)
    with background_load() as load, reporter.progress("runs", plan.most, unit="runs/s") as on_progress:
        rows = measure_video(request, plan, on_progress)
    require_reliable(rows, plan, load.share)
    ceilings = None
    if request.ceilings:
        with reporter.progress("what this machine can do", None):
            ceilings = asdict(measure_roofline("cuda" if rows[0]["device"] == "cuda" else "cpu"))
    return {
        **environment_info(),
        "plan": asdict(plan),
        "load": load.share,
        "clip": request.clip.name,
        "ceilings": ceilings,
        "rows": rows,
    }


def ready(backends: Sequence[str], plan: Plan) -> None:
    """Check backends and machine load before a measurement of several minutes.

    Raises MissingDependency for a backend that is not installed, NoisyMachine for a busy machine.
    """
    for backend in backends:
        load_backend(split_precision(backend)[0])
    refuse_busy_machine(plan.max_load)


def cases_of(request: Request) -> list[list[Case]]:
    """Return groups of cases whose calls are interleaved: all backends and models at one size and batch.

    Raises InvalidArgument for a size that is not WIDTHxHEIGHT.
    """
    models = [resolve_model(model) for model in request.models or (None,)]
    makers = list(product(models, request.backends or DEFAULT_BACKENDS))
    groups = []
    for text, batch in product(request.sizes, request.batches):
        size = Size.parse(text)
        if size.width is None or size.height is None:
            raise InvalidArgument(field="size", problem=f"give sizes as WIDTHxHEIGHT, not {text!r}")
        groups.append(
            [
                Case(GENERATOR, model, backend, request.device, (size.width, size.height), batch)
                for model, backend in makers
            ]
        )
    if request.encoder:
        side = open_bundle(models[0]).manifest.style_size
        groups.append(
            [
                Case(ENCODER, model, backend, request.device, (side, side), 1)
                for model, backend in makers
                if backend not in ("trt", "fake")
            ]
        )
    return [group for group in groups if group]


def require_reliable(rows: Sequence[dict[str, Any]], plan: Plan, load: float | None) -> None:
    """Raise NoisyMachine, naming every row whose timings are not reliable; ``load`` is a share, 0..1."""
    times = {
        f"{row['part']} {row['backend']} {row['size']}": Times(
            tuple(row["seconds"]), row["warmups"], row["settled"]
        )
        for row in rows
    }
    checked(times, plan, load)


def add_cold_starts(rows: Sequence[dict[str, Any]], cases: Sequence[Case]) -> None:
    """Add time to the first frame, time of a style change and memory to the rows of generators, in place.

    Each figure is the median over COLD_STARTS fresh processes.
    """
    for case, row in zip(cases, rows, strict=True):
        if case.part == GENERATOR:
            runs = [
                cold_start(case.model, case.backend, case.device, case.size, case.batch)
                for _ in range(COLD_STARTS)
            ]
            row["cold"] = middle(runs)


def shown(report: dict[str, Any]) -> str:
    """Return the report as text for a terminal."""
    head, lines, more = table_parts(report)
    return "\n".join([reports.text_table(head, lines), *more, reports.described(report)])


def as_markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    head, lines, more = table_parts(report)
    more += reports.described(report).split("\n")
    return "\n".join([reports.markdown(head, lines), "", *(f"- {line}" for line in more), ""])


def table_parts(report: dict[str, Any]) -> tuple[Sequence[str], list[list[str]], list[str]]:
    """Return the table of a latency or video report as (head, lines), and the notes that have no column."""
    rows = report["rows"]
    if "clip" in report:
        from mst_deploy.benchmarks import video as tables

        return tables.HEAD, [tables.cells(row, report) for row in rows], [tables.stages(row) for row in rows]
    more = [*reports.steps(rows), *reports.starts(rows)]
    return reports.HEAD, [reports.cells(row, report) for row in rows], more


def save_plots(report: dict[str, Any], folder: Path, stem: str, suffix: str) -> list[Path]:
    """Plot a report into ``folder``; return the written files. Raises MissingDependency without
    Matplotlib."""
    try:
        plots = import_module("mst_deploy.benchmarks.plots")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingDependency("matplotlib", "plots", "plotting a report") from error
    return list(plots.save_plots(report, folder, stem, suffix))


def compared(a: Path, b: Path, relative_to: str | None) -> tuple[list[compare.Difference], list[str]]:
    """Return the differences of two reports, and notes on differences between the two machines.

    Raises InputError for an unreadable report, InvalidArgument if there is nothing to compare.
    """
    first, second = reports.read_report(a), reports.read_report(b)
    return compare.differences(first, second, relative_to), compare.other_machine(first, second)


def work_of(options: WorkOptions) -> tuple[Work, int]:
    """Count the multiply-adds and bytes of a model's generator; return them, and the number of pixels.

    Raises BundleError, and InvalidArgument for a size that is not WIDTHxHEIGHT.
    """
    bundle, size = open_bundle(resolve_model(options.model)), Size.parse(options.size)
    if size.width is None or size.height is None:
        raise InvalidArgument(field="size", problem=f"give the size as WIDTHxHEIGHT, not {options.size!r}")
    pixels = (options.batch, size.height, size.width, 3)
    return count(bundle.generator, input_shapes(bundle.manifest, pixels)), math.prod(pixels[:3])
