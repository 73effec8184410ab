"""What the commands ``mst bench ...`` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst_deploy.backends import load_backend
from mst_deploy.backends.registry import split_precision
from mst_deploy.benchmarks import compare, reports
from mst_deploy.benchmarks.cold_start import cold_start, middle
from mst_deploy.benchmarks.environment import background_load, environment_info, refuse_busy_machine
from mst_deploy.benchmarks.harness import Plan, Times, checked
from mst_deploy.benchmarks.latency import ENCODER, GENERATOR, Case, measure_cases
from mst_deploy.benchmarks.op_counts import Work, count, input_shapes
from mst_deploy.benchmarks.roofline import measure_roofline
from mst_deploy.errors import InvalidArgument, MissingDependency
from mst_deploy.model.bundle import open_bundle
from mst_deploy.reporter import SILENT, Reporter
from mst_deploy.size import Size

if TYPE_CHECKING:
    from mst_deploy.benchmarks.video import VideoRequest

COLD_STARTS = 3


@dataclass(frozen=True)
class Request:
    """What to measure, as the options say."""

    models: Sequence[Path]
    backends: Sequence[str]
    device: str
    sizes: Sequence[str]
    batches: Sequence[int]
    encoder: bool = True
    cold: bool = True
    ceilings: bool = True


def latency(request: Request, plan: Plan, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Measure; the report. Raises NoisyMachine when it cannot be believed, and what opening raises."""
    groups = cases_of(request)
    ready(request.backends, plan)
    rows: list[dict[str, Any]] = []
    with background_load() as load:
        for cases in groups:
            label = f"measuring {cases[0].size[0]}x{cases[0].size[1]}"
            with reporter.progress(label, None) as tell:
                rows += measure_cases(cases, plan, tell)
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
    """Measure whole jobs; the report. Raises NoisyMachine, and what opening clip and models raises."""
    from mst_deploy.benchmarks.video import info_of, measure_video  # here: only videos need PyAV

    info_of(request)
    ready(request.backends, plan)
    with background_load() as load, reporter.progress("runs", plan.most, unit="runs/s") as tell:
        rows = measure_video(request, plan, tell)
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
    """Raises for backends that are not there and for a busy machine: before minutes are spent."""
    for backend in backends:
        load_backend(split_precision(backend)[0])
    refuse_busy_machine(plan.max_load)


def cases_of(request: Request) -> list[list[Case]]:
    """Groups that are measured in turns: all backends and models at one size and batch.

    Raises InvalidArgument for impossible sizes.
    """
    makers = list(product(request.models, request.backends))
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
        side = open_bundle(request.models[0]).manifest.style_size
        groups.append(
            [
                Case(ENCODER, model, backend, request.device, (side, side), 1)
                for model, backend in makers
                if backend not in ("trt", "fake")
            ]
        )
    return [group for group in groups if group]


def require_reliable(rows: Sequence[dict[str, Any]], plan: Plan, load: float | None) -> None:
    """Raises NoisyMachine, naming all rows that cannot be believed."""
    times = {
        f"{row['part']} {row['backend']} {row['size']}": Times(
            tuple(row["seconds"]), row["warmups"], row["settled"]
        )
        for row in rows
    }
    checked(times, plan, load)


def add_cold_starts(rows: Sequence[dict[str, Any]], cases: Sequence[Case]) -> None:
    """First frame, change of style and memory of the generators, each in fresh processes."""
    for case, row in zip(cases, rows, strict=True):
        if case.part == GENERATOR:
            runs = [
                cold_start(case.model, case.backend, case.device, case.size, case.batch)
                for _ in range(COLD_STARTS)
            ]
            row["cold"] = middle(runs)


def shown(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    head, lines, more = told(report)
    return "\n".join([reports.text_table(head, lines), *more, reports.described(report)])


def as_markdown(report: dict[str, Any]) -> str:
    """The report for a document."""
    head, lines, more = told(report)
    more += reports.described(report).split("\n")
    return "\n".join([reports.markdown(head, lines), "", *(f"- {line}" for line in more), ""])


def told(report: dict[str, Any]) -> tuple[Sequence[str], list[list[str]], list[str]]:
    """Head and lines of the table of a report of latency or video, and what does not go into columns."""
    rows = report["rows"]
    if "clip" in report:
        from mst_deploy.benchmarks import video as tables

        return tables.HEAD, [tables.cells(row, report) for row in rows], [tables.stages(row) for row in rows]
    more = [*reports.steps(rows), *reports.starts(rows)]
    return reports.HEAD, [reports.cells(row, report) for row in rows], more


def save_plots(report: dict[str, Any], folder: Path, stem: str, suffix: str) -> list[Path]:
    """Raises MissingDependency without Matplotlib."""
    try:
        plots = import_module("mst_deploy.benchmarks.plots")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingDependency("matplotlib", "plots", "plotting a report") from error
    return list(plots.save_plots(report, folder, stem, suffix))


def compared(a: Path, b: Path, relative_to: str | None) -> tuple[list[compare.Difference], list[str]]:
    """Differences of two reports, and notes on what else differs. Raises InputError, InvalidArgument."""
    first, second = reports.read_report(a), reports.read_report(b)
    return compare.differences(first, second, relative_to), compare.other_machine(first, second)


def work_of(model: Path, size: str, batch: int) -> Work:
    """What the generator of a bundle computes and moves at a size. Raises BundleError, InvalidArgument."""
    bundle, wanted = open_bundle(model), Size.parse(size)
    if wanted.width is None or wanted.height is None:
        raise InvalidArgument(field="size", problem=f"give the size as WIDTHxHEIGHT, not {size!r}")
    pixels = (batch, wanted.height, wanted.width, 3)
    return count(bundle.generator, input_shapes(bundle.manifest, pixels))
