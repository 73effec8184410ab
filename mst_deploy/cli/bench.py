"""The commands ``mst bench ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mst_deploy.errors import InvalidArgument
from mst_deploy.options import (
    MODEL_HELP,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    free_to_write,
    room,
)

bench_app = typer.Typer(help="Measure how fast models run, and whether two measurements differ.",
                        no_args_is_help=True)  # fmt: skip


@bench_app.command("latency")
def latency(
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help="WIDTHxHEIGHT of the frames; may be repeated. Default: 512x512."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help=f"{MODEL_HELP} May be repeated."),
    ] = None,
    backends: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            help="onnxrt, openvino, openvino:bf16, pytorch or trt; may be repeated. Default: onnxrt.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    batches: Annotated[
        list[int] | None,
        typer.Option("--batch", min=1, help="Frames a call; may be repeated. Default: 1."),
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals.")] = 0.95,
    within: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Half width of the mean's interval, as a share of it.")
    ] = 0.03,
    seconds: Annotated[float, typer.Option(min=0, help="Time for the calls of each thing, at most.")] = 60.0,
    load: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the machine that other programs may use.")
    ] = 0.10,
    encoder: Annotated[bool, typer.Option(help="Also measure the style encoder.")] = True,
    cold: Annotated[bool, typer.Option(help="Also measure first frame and memory in new processes.")] = True,
    ceilings: Annotated[bool, typer.Option(help="Also measure what this machine can do at best.")] = True,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Report to write (.json).")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Tables to write (.md).")] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Plots to write: NAME.png or NAME.svg, as NAME-sizes etc.")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Latency by backend, size and batch; refused when the machine is too noisy to tell."""
    from mst_deploy.console import answer

    command = room("benchmarks")
    for path in filter(None, (output, markdown)):
        free_to_write(path, None, force=force)
    if plots is not None and plots.suffix not in (".png", ".svg"):
        raise InvalidArgument(f"plots are written as .png or .svg, not {plots.suffix!r}")
    from mst_deploy.benchmarks.harness import Plan
    from mst_deploy.shipped import find_bundle

    bundles = [find_bundle(model) for model in models] if models else [find_bundle()]
    request = command.Request(
        bundles, backends or ["onnxrt"], device, sizes or ["512x512"], batches or [1], encoder, cold, ceilings
    )
    plan = Plan(confidence=confidence, precision=within, seconds=seconds, load=load)
    report = command.latency(request, plan, quiet=quiet or as_json)
    if output is not None:
        command.reports.write_report(output, report)
    if markdown is not None:
        _write(markdown, command.as_markdown(report))
    written = command.save_plots(report, plots.parent, plots.stem, plots.suffix) if plots is not None else []
    files = [str(path) for path in (output, markdown, *written) if path is not None]
    answer("\n".join([command.shown(report), *files]), report, as_json=as_json, quiet=quiet)


@bench_app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="Report of mst bench latency -o.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another one.")],
    relative_to: Annotated[
        str | None, typer.Option(metavar="BACKEND", help="Compare times as multiples of this backend's.")
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(min=0, help="Exit with 1 if anything got slower for certain, by this share."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Whether B is faster or slower than A for certain, row by row."""
    from dataclasses import asdict

    from mst_deploy.console import answer, say

    found, notes = room("benchmarks").compared(first, second, relative_to)
    if notes and relative_to is None:
        say(f"note: not the same machine: {'; '.join(notes)}", quiet=as_json)
    values = [{**asdict(one), "real": one.real} for one in found]
    answer("\n".join(one.told() for one in found), {"differences": values, "notes": notes}, as_json=as_json)
    if fail_above is not None and any(one.real and one.ratio.value > 1 + fail_above for one in found):
        raise typer.Exit(1)


@bench_app.command("work")
def work(
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "512x512",
    model: ModelOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames at once.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Multiply-adds and bytes of a generator, operator by operator."""
    from mst_deploy.console import answer
    from mst_deploy.shipped import find_bundle

    command = room("benchmarks")
    found = command.work_of(find_bundle(model), size, batch)
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
    table: str = command.reports.text_table(("operator", "GMAC", "MB"), lines)
    values: dict[str, Any] = {"multiply_adds": found.multiply_adds, "bytes": found.bytes,
                              "least_bytes": found.least_bytes, "by_kind": found.by_kind()}  # fmt: skip
    answer(f"{table}\n{total}", values, as_json=as_json)


def _pixels(size: str) -> int:
    width, height = map(int, size.lower().split("x"))
    return width * height


def _write(path: Path, text: str) -> None:
    from mst_deploy.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
