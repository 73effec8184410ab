"""The commands ``mst bench ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mst_deploy.backends.options import BACKENDS_HELP, MODEL_HELP
from mst_deploy.cli.options import (
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    requires,
    terminal,
)
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import require_writable

bench_app = typer.Typer(
    help="Measure how fast models run, and whether two measurements differ.", no_args_is_help=True
)
ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", metavar="MODEL", help=f"{MODEL_HELP} May be repeated.")
]
BackendsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        help=f"{BACKENDS_HELP}; may be repeated. Default: onnxrt.",
    ),
]
ConfidenceOption = Annotated[
    float, typer.Option(min=0.5, max=0.999, help="Confidence level of the intervals.")
]
CiWidthOption = Annotated[
    float,
    typer.Option(min=0.001, max=0.5, help="Half width of the mean's interval, as a fraction of the mean."),
]
MaxLoadOption = Annotated[
    float, typer.Option(min=0, max=1, help="Fraction of the machine that other programs may use.")
]
RooflineOption = Annotated[bool, typer.Option(help="Also measure the roofline of this machine.")]
ReportOption = Annotated[Path | None, typer.Option("-o", "--output", help="Report to write (.json).")]
MarkdownOption = Annotated[Path | None, typer.Option(help="Tables to write (.md).")]


@bench_app.command("latency")
def latency(
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help="WIDTHxHEIGHT of the frames; may be repeated. Default: 512x512."),
    ] = None,
    models: ModelsOption = None,
    backends: BackendsOption = None,
    device: DeviceOption = "auto",
    batches: Annotated[
        list[int] | None,
        typer.Option("--batch", min=1, help="Frames a call; may be repeated. Default: 1."),
    ] = None,
    confidence: ConfidenceOption = 0.95,
    ci_width: CiWidthOption = 0.03,
    seconds: Annotated[float, typer.Option(min=0, help="Maximum time for the calls of each case.")] = 60.0,
    min_runs: Annotated[
        int,
        typer.Option(min=2, max=320, help="Calls of each, whatever the time: p95 needs 20, p99 100."),
    ] = 10,
    max_load: MaxLoadOption = 0.10,
    encoder: Annotated[bool, typer.Option(help="Also measure the style encoder.")] = True,
    cold: Annotated[bool, typer.Option(help="Also measure first frame and memory in new processes.")] = True,
    ceilings: RooflineOption = True,
    output: ReportOption = None,
    markdown: MarkdownOption = None,
    plots: Annotated[
        Path | None, typer.Option(help="Plots to write: NAME.png or NAME.svg, as NAME-sizes etc.")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure latency by backend, size and batch; an error if the machine is too noisy for reliable
    figures."""
    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command
    for path in filter(None, (output, markdown)):
        require_writable(path, None, force=force)
    if plots is not None and plots.suffix not in (".png", ".svg"):
        raise InvalidArgument(f"plots are written as .png or .svg, not {plots.suffix!r}")
    from mst_deploy.benchmarks.harness import Plan

    request = command.Request(
        _bundles(models),
        backends or ["onnxrt"],
        device,
        sizes or ["512x512"],
        batches or [1],
        encoder,
        cold,
        ceilings,
    )
    plan = Plan(
        confidence=confidence, precision=ci_width, seconds=seconds, min_runs=min_runs, max_load=max_load
    )
    report = command.latency(request, plan, terminal(quiet=quiet or as_json))
    written = command.save_plots(report, plots.parent, plots.stem, plots.suffix) if plots is not None else []
    _deliver(report, output, markdown, written, as_json=as_json, quiet=quiet)


@bench_app.command("video")
def video(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="Video that is stylized.")],
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help="WIDTHxHEIGHT or short side; may be repeated. Default: the clip's own."),
    ] = None,
    models: ModelsOption = None,
    backends: BackendsOption = None,
    device: DeviceOption = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Frames in one call of the model.")] = 1,
    codec: Annotated[str | None, typer.Option(help="Codec of the result, as for mst video.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Begin at this moment.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End before this moment.")] = None,
    runs: Annotated[int, typer.Option(min=3, help="Complete jobs of each.")] = 3,
    confidence: ConfidenceOption = 0.95,
    ci_width: CiWidthOption = 0.05,
    max_load: MaxLoadOption = 0.10,
    ceilings: RooflineOption = True,
    output: ReportOption = None,
    markdown: MarkdownOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a clip from file to file, stage by stage, beside the generator alone; results are deleted."""
    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command
    for path in filter(None, (output, markdown)):
        require_writable(path, clip, force=force)
    from mst_deploy.benchmarks.harness import Plan
    from mst_deploy.benchmarks.video import VideoRequest
    from mst_deploy.jobs.render_file import RenderOptions
    from mst_deploy.video.codecs import EncodeOptions
    from mst_deploy.video.info import ReadOptions
    from mst_deploy.video.time_ranges import TimeRange

    job = RenderOptions(
        read=ReadOptions(TimeRange.parse(start, end, None)), encode=EncodeOptions(codec), batch=batch
    )
    request = VideoRequest(clip, _bundles(models), backends or ["onnxrt"], device, sizes or (), job, ceilings)
    plan = Plan(confidence=confidence, precision=ci_width, min_runs=runs, most=runs, max_load=max_load)
    report = command.video(request, plan, terminal(quiet=quiet or as_json))
    _deliver(report, output, markdown, [], as_json=as_json, quiet=quiet)


@bench_app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="Report of mst bench latency or video.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another one.")],
    relative_to: Annotated[
        str | None, typer.Option(metavar="BACKEND", help="Compare times as multiples of this backend's.")
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(min=0, help="Exit with 1 if anything got significantly slower, by this fraction."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two reports row by row: whether B is significantly faster or slower than A."""
    from dataclasses import asdict

    from mst_deploy.cli.console import echo, print_result

    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command
    found, notes = command.compared(first, second, relative_to)
    if notes and relative_to is None:
        echo(f"note: not the same machine: {'; '.join(notes)}", quiet=as_json)
    values = [{**asdict(one), "real": one.real} for one in found]
    print_result(
        "\n".join(one.describe() for one in found), {"differences": values, "notes": notes}, as_json=as_json
    )
    if fail_above is not None and any(one.real and one.ratio.value > 1 + fail_above for one in found):
        raise typer.Exit(1)


@bench_app.command("work")
def work(
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "512x512",
    model: ModelOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames at once.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Count multiply-adds and bytes of a generator, operator by operator."""
    from mst_deploy.cli.console import print_result
    from mst_deploy.model.zoo import resolve_model

    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command, reports
    found = command.work_of(resolve_model(model), size, batch)
    pixels = batch * _pixels(size)
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
    print_result(f"{table}\n{total}", values, as_json=as_json)


def _bundles(models: list[str] | None) -> list[Path]:
    from mst_deploy.model.zoo import resolve_model

    return [resolve_model(model) for model in models] if models else [resolve_model()]


def _deliver(
    report: dict[str, Any],
    output: Path | None,
    markdown: Path | None,
    written: list[Path],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the requested files, then print the report with their names."""
    from mst_deploy.cli.console import print_result

    with requires("plots", "mst bench"):
        from mst_deploy.benchmarks import command, reports
    if output is not None:
        reports.write_report(output, report)
    if markdown is not None:
        _write(markdown, command.as_markdown(report))
    files = [str(path) for path in (output, markdown, *written) if path is not None]
    print_result("\n".join([command.shown(report), *files]), report, as_json=as_json, quiet=quiet)


def _pixels(size: str) -> int:
    width, height = map(int, size.lower().split("x"))
    return width * height


def _write(path: Path, text: str) -> None:
    from mst_deploy.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
