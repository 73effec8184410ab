"""The command ``mst batch``: many videos, or long ones, on several processes or machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mst_deploy.cli.errors import worded
from mst_deploy.cli.job import (
    BackgroundStyleOption,
    MaskOption,
    PreserveOption,
    SeedOption,
    StrengthsOption,
    StrokeSizeOption,
    StrokesOption,
    StylesOption,
    TimelineOption,
    timeline_of,
)
from mst_deploy.cli.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SizeOption,
    requires,
)
from mst_deploy.errors import InputError, OutputError

if TYPE_CHECKING:
    from mst_deploy.jobs.batch.inputs import Rejected
    from mst_deploy.jobs.batch.run import BatchEvent, BatchReport


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IN...", help="Videos: files, folders, patterns ('*.mp4'), URLs (s3://...)."),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder or URL (s3://...) of the results, named IN-STYLE.")
    ],
    style: StylesOption = None,
    size: SizeOption = None,
    strength: StrengthsOption = None,
    strokes: StrokesOption = None,
    stroke_size: StrokeSizeOption = None,
    seed: SeedOption = None,
    preserve_color: PreserveOption = False,
    mask: MaskOption = None,
    background_style: BackgroundStyleOption = None,
    timeline: TimelineOption = None,
    deflicker: Annotated[bool, typer.Option("--deflicker", help="Less flicker; see mst video.")] = False,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin here: seconds or [HH:]MM:SS.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End before this moment.")] = None,
    sample_every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Keep one frame in each interval of this length.")
    ] = None,
    sdr: Annotated[bool, typer.Option("--sdr", help="Map HDR to BT.709 instead of keeping it.")] = False,
    codec: Annotated[
        str | None, typer.Option(help="h264, hevc, av1, vp9, prores, ffv1 or raw; see mst video.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(help="Coding quality; lower is better and larger. Default: no visible loss.")
    ] = None,
    bitrate: Annotated[
        str | None, typer.Option(help="Bits a second in place of a quality: 800k, 4M.")
    ] = None,
    audio: Annotated[
        str | None, typer.Option(help="Sound: copy, none, aac, opus or flac. Default: copy.")
    ] = None,
    subtitles: Annotated[str, typer.Option(help="Subtitles: copy or none.")] = "copy",
    hwaccel: Annotated[
        str, typer.Option(help="NVIDIA's decoder and encoder: off, on, or auto (where they can).")
    ] = "off",
    frames_per_call: Annotated[
        int, typer.Option("--batch", min=1, help="Frames in one call of the model, for GPUs.")
    ] = 1,
    address: Annotated[
        str,
        typer.Option(
            help="Where the workers are: local (this machine), or a Ray cluster: auto, HOST:6379, "
            "ray://HOST:10001."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of workers. Default: one for each GPU, or for each --cpus-per-worker cores."
        ),
    ] = None,
    cpus_per_worker: Annotated[float, typer.Option(min=0.1, help="Cores of one worker.")] = 2.0,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0.0, help="GPUs of one worker of a cluster. Default: 1 for --device cuda, else 0."),
    ] = None,
    tries: Annotated[
        int, typer.Option(min=1, help="Workers that may die over one segment before its video is given up.")
    ] = 3,
    same_bytes: Annotated[
        bool,
        typer.Option("--same-bytes", help="Use only workers of one kind, so that results are reproducible."),
    ] = False,
    trust_network: Annotated[
        bool,
        typer.Option(
            "--trust-network", help="Use a Ray cluster without a token: everybody who reaches it can use it."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, and the time it is expected to take.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write what --json prints to this file, too.")] = None,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylize many videos, or long ones, on several processes or machines.

    Results have the same bytes as those of mst video. An input that fails does not stop the others. After a
    crash or Ctrl-C the same command goes on; results that are there already are left alone.
    """
    from mst_deploy.cli.console import echo, print_result, progress
    from mst_deploy.jobs.batch.command import BatchOptions, expected, prepare, run
    from mst_deploy.jobs.render_file import RenderOptions
    from mst_deploy.size import Size
    from mst_deploy.video.codecs import EncodeOptions, parse_bitrate
    from mst_deploy.video.info import ReadOptions
    from mst_deploy.video.time_ranges import TimeRange

    style_timeline = timeline_of(
        style, strength, preserve_color, mask, background_style, timeline, strokes, stroke_size, seed
    )
    options = BatchOptions(
        render=RenderOptions(
            read=ReadOptions(TimeRange.parse(start, end, sample_every), sdr, hwaccel),
            size=Size.parse(size) if size else Size(),
            encode=EncodeOptions(
                codec, crf, None if bitrate is None else parse_bitrate(bitrate), hwaccel, audio, subtitles
            ),
            batch=frames_per_call,
            deflicker=deflicker,
            force=force,
        ),
        address=address,
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        tries=tries,
        same_bytes=same_bytes,
        trust_network=trust_network,
    )
    plan = prepare(inputs, output, style_timeline, model, backend, device, options)
    for rejected in plan.rejected:
        echo(_rejection(rejected), quiet=quiet and not rejected.reason)
    if dry_run:
        values = expected(plan)
        print_result(_planned(values), values, as_json=as_json, quiet=quiet)
        return
    total = round(sum(video.frames for video in plan.videos))
    label = f"{len(plan.videos)} videos" if len(plan.videos) != 1 else Path(plan.videos[0].source).name
    try:
        with (
            requires("batch", "mst batch --address"),
            progress(label, total or None, quiet=quiet or as_json) as show,
        ):

            def on_event(event: BatchEvent) -> None:
                show(event.done)
                if event.note:
                    echo(f"mst: {worded(event.note)}")

            made = run(plan, on_event)
    except KeyboardInterrupt:
        echo("mst: interrupted; finished segments are kept, the same command goes on")
        raise typer.Exit(130) from None
    values = plan.report(made)
    if report is not None:
        _write_report(report, values)
    print_result(_finished(made, values), values, as_json=as_json, quiet=quiet)
    failed = values["failed"]
    if failed:
        raise InputError(f"{failed} of {len(values['videos'])} inputs failed")


def _rejection(rejected: Rejected) -> str:
    name = Path(rejected.source).name
    if rejected.reason:
        return f"mst: {name}: {worded(rejected.reason)}"
    return f"note: {rejected.output} is there already; --force makes it again"


def _planned(values: dict[str, Any]) -> str:
    lines = [
        f"{video['source']} -> {video['output']}  {video['frames'] or 'unknown'} frames"
        f"{', in segments' if video['split'] else ''}"
        for video in values["videos"]
    ]
    time = "unknown" if values["seconds"] is None else f"about {values['seconds']:.0f} s"
    lines.append(
        f"{len(values['videos'])} videos, {values['frames']} frames on {values['workers']} workers: {time}, "
        f"about {values['bytes'] / 1e6:.1f} MB"
    )
    return "\n".join(lines)


def _finished(made: BatchReport, values: dict[str, Any]) -> str:
    lines = [f"{video.output}  {video.frames} frames" for video in made.videos if video.state == "done"]
    lines += [
        f"note: {Path(video.source).name}: {worded(note)}" for video in made.videos for note in video.notes
    ]
    workers = sum(worker.state == "ready" for worker in made.workers)
    lines.append(
        f"{sum(video.state == 'done' for video in made.videos)} videos, {values['frames']} frames, "
        f"{made.seconds:.1f} s ({values['fps']:.1f} fps on {workers} workers)"
    )
    return "\n".join(lines)


def _write_report(path: Path, values: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another file") from error
