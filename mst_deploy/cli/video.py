"""The command ``mst video``: one video or many."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mst_deploy.backends.registry import AUTO
from mst_deploy.cli.errors import worded
from mst_deploy.cli.job import (
    BackgroundStyleOption,
    Job,
    MaskOption,
    OptimizeStyleOption,
    OptimizeVggOption,
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
    MaxPixelsOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    SizeOption,
)
from mst_deploy.cli.preview import find_previews, make_previews
from mst_deploy.cli.tasks import Failures, Task, find_tasks, report_late_losses
from mst_deploy.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mst_deploy.jobs.render_file import RenderOptions, RenderResult
    from mst_deploy.size import Size


def video(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...",
            help="Videos: files, folders, patterns ('*.mp4'), numbered pictures (in%06d.png), -.",
        ),
    ],
    style: StylesOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Result: .mp4, .m4v, .mov, .mkv, .webm, .gif, .webp, .y4m, numbered pictures (out%06d.png) "
            "or - for standard output; for several inputs, an existing folder.",
        ),
    ] = None,
    size: SizeOption = None,
    strength: StrengthsOption = None,
    strokes: StrokesOption = None,
    stroke_size: StrokeSizeOption = None,
    seed: SeedOption = None,
    preserve_color: PreserveOption = False,
    mask: MaskOption = None,
    background_style: BackgroundStyleOption = None,
    timeline: TimelineOption = None,
    optimize_style: OptimizeStyleOption = False,
    vgg: OptimizeVggOption = None,
    deflicker: Annotated[
        bool,
        typer.Option(
            "--deflicker",
            help="Less flicker: average each stylized frame with up to four before it, moved along with the "
            "picture. Where much moves, strokes get a little softer.",
        ),
    ] = False,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin here: seconds or [HH:]MM:SS.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End before this moment.")] = None,
    sample_every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Keep one frame in each interval of this length.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Frames a second of numbered pictures (in%06d.png). Default: 25.")
    ] = None,
    sdr: Annotated[bool, typer.Option("--sdr", help="Map HDR to BT.709 instead of keeping it.")] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            help="h264, hevc, av1, vp9, prores, ffv1 or raw. Default: h264, hevc for more than 8 bits."
        ),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(help="Coding quality; lower is better and larger. Default: no visible loss."),
    ] = None,
    bitrate: Annotated[
        str | None, typer.Option(help="Bits a second in place of a quality: 800k, 4M.")
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option(
            help="Sound: copy, none, or encoded as aac, opus or flac. Default: copy; what no container takes "
            "is encoded."
        ),
    ] = None,
    subtitles: Annotated[str, typer.Option(help="Subtitles: copy or none.")] = "copy",
    preview: Annotated[
        str | None,
        typer.Option(
            metavar="TIME,...",
            help="Write only stills of the result at these times (00:10,01:05), named IN-STYLE-00m10s.png, "
            "beside the result or in the folder -o. Times count from the beginning of the result.",
        ),
    ] = None,
    hwaccel: Annotated[
        str, typer.Option(help="NVIDIA's decoder and encoder: off, on, or auto (where they can).")
    ] = "off",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what a crash or Ctrl-C left unfinished.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Frames in one call of the model, for GPUs.")] = 1,
    model: ModelOption = None,
    backend: BackendOption = AUTO,
    precision: PrecisionOption = AUTO,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylize videos: same frames at the same times, the sound untouched.

    Results are named IN-STYLE beside the inputs unless -o says otherwise. Ctrl-C keeps what is done as a
    file that plays; --resume makes the rest.
    """
    from mst_deploy.cli.console import echo
    from mst_deploy.image_files import MAX_PIXELS, limited_pixels
    from mst_deploy.jobs.inputs import VIDEO_SUFFIXES, expand, files_read
    from mst_deploy.jobs.render_file import RenderOptions
    from mst_deploy.size import Size
    from mst_deploy.video.codecs import EncodeOptions, parse_bitrate
    from mst_deploy.video.info import ReadOptions
    from mst_deploy.video.time_ranges import TimeRange

    style_timeline = timeline_of(
        style, strength, preserve_color, mask, background_style, timeline, strokes, stroke_size, seed
    )
    options = RenderOptions(
        read=ReadOptions(TimeRange.parse(start, end, sample_every), sdr, hwaccel, parse_rate(rate)),
        size=Size.parse(size) if size else Size(),
        encode=EncodeOptions(
            codec, crf, None if bitrate is None else parse_bitrate(bitrate), hwaccel, audio, subtitles
        ),
        batch=batch,
        deflicker=deflicker,
        resume=resume,
        force=force,
    )
    files = expand(inputs, VIDEO_SUFFIXES)
    many = len(files) > 1
    if many and output and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    failures = Failures(many)
    read = files_read(style_timeline, timeline, Path(model) if model else None, vgg)
    if preview is not None:
        with limited_pixels(max_pixels or MAX_PIXELS):
            make_previews(
                find_previews(files, style_timeline.label, preview, output, options, failures, read),
                lambda: Job(
                    style_timeline,
                    model,
                    backend,
                    device,
                    optimize_style=optimize_style,
                    vgg=vgg,
                    precision=precision,
                ),
                options,
                failures,
                as_json=as_json,
                quiet=quiet,
            )
        failures.summarize(len(files))
        return
    tasks = find_tasks(files, style_timeline.label, output, options, failures, quiet, read)
    made: list[dict[str, Any]] = []
    try:
        if tasks:
            with (
                limited_pixels(max_pixels or MAX_PIXELS),
                Job(
                    style_timeline,
                    model,
                    backend,
                    device,
                    optimize_style=optimize_style,
                    vgg=vgg,
                    precision=precision,
                    sizes=painted_sizes(tasks, options.size),
                    batch=batch,
                ) as job,
            ):
                made = _make(tasks, job, options, failures, quiet=quiet, shown=not (quiet or as_json))
    except KeyboardInterrupt as stop:
        echo("; ".join(["mst: interrupted", *map(worded, getattr(stop, "__notes__", ()))]))
        raise typer.Exit(130) from None
    _print_report(made, as_json=as_json, quiet=quiet, many=many)
    failures.summarize(len(files))


def painted_sizes(tasks: Sequence[Task], size: Size) -> list[tuple[int, int]]:
    """Sizes (width, height) that the model will see; none if one of the inputs is a pipe, not opened yet."""
    infos = [task.info for task in tasks]
    if any(info is None for info in infos):
        return []
    return [size.applied(info.width, info.height) for info in infos if info is not None]


def _make(
    tasks: list[Task], job: Job, options: RenderOptions, failures: Failures, *, quiet: bool, shown: bool
) -> list[dict[str, Any]]:
    """Make all videos, one after the other, with one progress display over all their frames."""
    from mst_deploy.cli.console import echo, progress
    from mst_deploy.pipeline.events import Event, FramesDone, Note

    total = sum(task.frames for task in tasks)
    label = tasks[0].source.name if len(tasks) == 1 else f"{len(tasks)} videos"
    made, before = [], 0
    with progress(f"{label} ({job.stylizer.device})", total, quiet=not shown) as on_progress:
        for number, task in enumerate(tasks, start=1):
            note = f"{number}: {task.source.name}" if len(tasks) > 1 else ""

            def on_event(event: Event, before: int = before, note: str = note) -> None:
                if isinstance(event, FramesDone):
                    job.tell_choice(quiet=quiet)
                    on_progress(before + event.done, note)
                elif isinstance(event, Note):
                    echo(f"note: {worded(event.text)}", quiet=not shown)

            with failures.of(task.source):
                style_plan, gained = job.plan_for(
                    task.source, options.read, on_progress=partial(on_progress, before), quiet=not shown
                )
                result = job.stylizer.file(task.source, task.target, style_plan, options, on_event)
                made.append({**_facts(result, job), **gained})
                report_late_losses(task, result, not shown)
            before += task.frames
    return made


def _facts(result: RenderResult, job: Job) -> dict[str, Any]:
    return {
        "output": str(result.output),
        "frames": result.frames,
        "resumed": result.resumed,
        "width": result.width,
        "height": result.height,
        "seconds": round(result.seconds, 3),
        "fps": round(result.fps, 3),
        "limit": result.limit,
        "stages": {stage: round(share, 3) for stage, share in result.stages.items()},
        "not_kept": list(result.not_kept),
        "damage": list(result.damage),
        "decoder": result.decoder,
        "encoder": result.encoder,
        **job.facts(),
    }


def parse_rate(text: str | None) -> Fraction | None:
    """Parse a frame rate exactly: ``25``, ``23.976`` or ``24000/1001``. Raises InvalidArgument."""
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InvalidArgument(f"cannot use {text!r} as a rate: give frames a second (25, 24000/1001)")
    return rate


def _resumed(facts: dict[str, Any]) -> str:
    return f" ({facts['resumed']} of them before)" if facts["resumed"] else ""


def _print_report(done: list[dict[str, Any]], *, as_json: bool, quiet: bool, many: bool) -> None:
    from mst_deploy.cli.console import echo, print_result

    lines = [
        f"{facts['output']}  {facts['frames']} frames{_resumed(facts)}, {facts['width']}x{facts['height']}, "
        f"{facts['seconds']:.1f} s ({facts['fps']:.1f} fps, {facts['device']}; limit: {facts['limit']}, "
        f"busy {facts['stages'].get(facts['limit'], 0):.0%} of the time)"
        for facts in done
    ]
    values = {"outputs": done} if many or not done else done[0]
    if any(facts["output"] == "-" for facts in done):  # the standard output is the video's
        echo(json.dumps(values) if as_json else "\n".join(lines), quiet=quiet and not as_json)
        return
    print_result("\n".join(lines), values, as_json=as_json, quiet=quiet)
