"""The commands ``mst bench ...``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from mst_deploy.benchmarks.options import (
    CompareOptions,
    LatencyPlan,
    PlotOptions,
    ReportOptions,
    Request,
    VideoPlan,
    VideoRequest,
    WorkOptions,
)
from mst_deploy.cli.options import JsonOptions, MessageOptions, requires
from mst_deploy.files import require_writable


def latency(
    request: Request, plan: LatencyPlan, report: ReportOptions, plots: PlotOptions, messages: MessageOptions
) -> None:
    """Measure latency by backend, size and batch; an error if the machine is too noisy for reliable
    figures."""
    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command
    _check(report, None)
    found = command.latency(request, plan, messages.reporter())
    written = []
    if (target := plots.plots) is not None:
        written = command.save_plots(found, target.parent, target.stem, target.suffix)
    _deliver(found, report, written, messages)


def video(request: VideoRequest, plan: VideoPlan, report: ReportOptions, messages: MessageOptions) -> None:
    """Measure a clip from file to file, stage by stage, beside the generator alone; results are deleted."""
    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command
    _check(report, request.clip)
    found = command.video(request, plan.exact(), messages.reporter())
    _deliver(found, report, [], messages)


def compare(options: CompareOptions, messages: JsonOptions) -> None:
    """Compare two reports row by row: whether B is significantly faster or slower than A."""
    from mst_deploy.cli.console import echo, print_result

    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command
    found, notes = command.compared(options.first, options.second, options.relative_to)
    if notes and options.relative_to is None:
        echo(f"note: not the same machine: {'; '.join(notes)}", quiet=messages.as_json)
    values = [{**asdict(one), "real": one.real} for one in found]
    print_result(
        "\n".join(one.describe() for one in found),
        {"differences": values, "notes": notes},
        as_json=messages.as_json,
    )
    limit = options.fail_above
    if limit is not None and any(one.real and one.ratio.value > 1 + limit for one in found):
        raise typer.Exit(1)


def work(options: WorkOptions, messages: JsonOptions) -> None:
    """Count multiply-adds and bytes of a generator, operator by operator."""
    from mst_deploy.cli.console import print_result

    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command, reports
    found, pixels = command.work_of(options)
    lines = [
        (kind, f"{adds / 1e9:.2f}", f"{moved / 1e6:.1f}")
        for kind, (adds, moved) in found.by_kind().items()
        if moved
    ]
    total = (
        f"{found.multiply_adds / 1e9:.2f} GMAC ({found.multiply_adds / pixels:,.0f} a pixel), "
        f"{found.bytes / 1e9:.2f} GB if every operator goes through memory, "
        f"{found.least_bytes / 1e9:.2f} GB if only the convolutions do"
    )
    table: str = reports.text_table(("operator", "GMAC", "MB"), lines)
    values: dict[str, Any] = {
        "multiply_adds": found.multiply_adds,
        "bytes": found.bytes,
        "least_bytes": found.least_bytes,
        "by_kind": found.by_kind(),
    }
    print_result(f"{table}\n{total}", values, as_json=messages.as_json)


def _check(report: ReportOptions, source: Path | None) -> None:
    """Raise OutputError before the measurement if a report cannot be written after it."""
    for path in filter(None, (report.output, report.markdown)):
        require_writable(path, source, force=report.force)


def _deliver(
    found: dict[str, Any], report: ReportOptions, written: list[Path], messages: MessageOptions
) -> None:
    """Write the requested files, then print the report with their names."""
    from mst_deploy.cli.console import print_result

    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command, reports
    if report.output is not None:
        reports.write_report(report.output, found)
    if report.markdown is not None:
        _write(report.markdown, command.as_markdown(found))
    files = [str(path) for path in (report.output, report.markdown, *written) if path is not None]
    text = "\n".join([command.shown(found), *files])
    print_result(text, found, as_json=messages.as_json, quiet=messages.quiet)


def _write(path: Path, text: str) -> None:
    from mst_deploy.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
