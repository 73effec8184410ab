"""The command ``mst video``: one video or many."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mst_deploy.backends.options import GeneratorOptions
from mst_deploy.cli import terminal_picture
from mst_deploy.cli.errors import worded
from mst_deploy.cli.job import Job
from mst_deploy.cli.options import LimitOptions, MessageOptions
from mst_deploy.cli.preview import find_previews, make_previews
from mst_deploy.cli.tasks import Failures, Task, find_tasks, report_late_losses
from mst_deploy.errors import InvalidArgument, MstError
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.options import INPUT_OUTPUT, Option
from mst_deploy.styles.options import OptimizeStyleOptions, TimelineOptions
from mst_deploy.video.time_ranges import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mst_deploy.jobs.render_file import RenderResult
    from mst_deploy.size import Size


@dataclass(frozen=True)
class VideoOptions:
    """Videos to stylize, and where the results are written."""

    inputs: Annotated[
        tuple[Path, ...],
        Option(
            "Videos: files, folders, patterns ('*.mp4'), numbered pictures (in%06d.png), -.",
            metavar="IN...",
            positional=True,
        ),
    ]
    output: Annotated[
        Path | None,
        Option(
            "Result: .mp4, .m4v, .mov, .mkv, .webm, .gif, .webp, .y4m, numbered pictures (out%06d.png) or - "
            "for standard output; for several inputs, an existing folder.",
            INPUT_OUTPUT,
        ),
    ] = None


@dataclass(frozen=True)
class PreviewOptions:
    """Stills to write in place of a video."""

    preview: Annotated[
        tuple[Fraction, ...],
        Option(
            "Write only stills of the result at these times (00:10,01:05), named IN-STYLE-00m10s.png, beside "
            "the result or in the folder -o. Times count from the beginning of the result.",
            INPUT_OUTPUT,
            metavar="TIME,...",
            separator=",",
            parse=parse_time,
        ),
    ] = ()


def video(
    options: VideoOptions,
    style: TimelineOptions,
    optimize: OptimizeStyleOptions,
    render: RenderOptions,
    stills: PreviewOptions,
    limits: LimitOptions,
    model: GeneratorOptions,
    messages: MessageOptions,
) -> None:
    """Stylize videos: same frames at the same times, the sound untouched.

    Results are named IN-STYLE beside the inputs unless -o says otherwise. Ctrl-C keeps what is done as a
    file that plays; --resume makes the rest.
    """
    from mst_deploy.cli.console import echo
    from mst_deploy.jobs.inputs import VIDEO_SUFFIXES, expand, files_read

    timeline = style.load()
    files = expand(options.inputs, VIDEO_SUFFIXES)
    many, output = len(files) > 1, options.output
    if many and output and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    failures = Failures(many)
    read = files_read(timeline, *style.files, model.folder, optimize.vgg)
    if stills.preview:
        with limits.applied():
            previews = find_previews(files, timeline.label, stills.preview, output, render, failures, read)
            make_previews(previews, lambda: Job(timeline, model, optimize), render, failures, messages)
        failures.summarize(len(files))
        return
    tasks = find_tasks(files, timeline.label, output, render, failures, messages.quiet, read)
    made: list[dict[str, Any]] = []
    try:
        if tasks:
            sizes = painted_sizes(tasks, render.size)
            with limits.applied(), Job(timeline, model, optimize, sizes=sizes, batch=render.batch) as job:
                if not messages.silent and terminal_picture.shows_pictures():
                    _show_first_frame(tasks[0], job, render)
                made = _make(tasks, job, render, failures, messages)
    except KeyboardInterrupt as stop:
        echo("; ".join(["mst: interrupted", *map(worded, getattr(stop, "__notes__", ()))]))
        raise typer.Exit(130) from None
    _print_report(made, messages, many=many)
    failures.summarize(len(files))


def painted_sizes(tasks: Sequence[Task], size: Size) -> list[tuple[int, int]]:
    """Return the sizes (width, height) that the model will see; none if one of the inputs is a pipe, which is
    not opened yet."""
    infos = [task.info for task in tasks]
    if any(info is None for info in infos):
        return []
    return [size.applied(info.width, info.height) for info in infos if info is not None]


def _show_first_frame(task: Task, job: Job, options: RenderOptions) -> None:
    """Show the first frame of the first result in the terminal; what is wrong with the input is left to the
    job to report."""
    from mst_deploy.video.sources import open_source

    if task.info is None:  # a pipe, which is read only once
        return
    with (
        suppress(MstError),
        open_source(task.source, options.read) as source,
        closing(job.stylizer.preview(source, job.style_plan, [0], size=options.size)) as frames,
    ):
        terminal_picture.show(next(frames).image)


def _make(
    tasks: list[Task], job: Job, options: RenderOptions, failures: Failures, messages: MessageOptions
) -> list[dict[str, Any]]:
    """Make all videos, one after the other, with one progress display over all their frames."""
    from mst_deploy.cli.console import echo, progress
    from mst_deploy.pipeline.events import Event, FramesDone, Note

    total = sum(task.frames for task in tasks)
    label = tasks[0].source.name if len(tasks) == 1 else f"{len(tasks)} videos"
    made, before, quiet = [], 0, messages.silent
    with progress(f"{label} ({job.stylizer.device})", total, quiet=quiet) as on_progress:
        for number, task in enumerate(tasks, start=1):
            note = f"{number}: {task.source.name}" if len(tasks) > 1 else ""

            def on_event(event: Event, before: int = before, note: str = note) -> None:
                if isinstance(event, FramesDone):
                    job.report_choice(quiet=messages.quiet)
                    on_progress(before + event.done, note)
                elif isinstance(event, Note):
                    echo(f"note: {worded(event.text)}", quiet=quiet)

            with failures.of(task.source):
                style_plan, gained = job.plan_for(
                    task.source, options.read, on_progress=partial(on_progress, before), quiet=quiet
                )
                result = job.stylizer.file(task.source, task.target, style_plan, options, on_event)
                made.append({**_facts(result, job), **gained})
                report_late_losses(task, result, quiet)
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


def _resumed(facts: dict[str, Any]) -> str:
    return f" ({facts['resumed']} of them before)" if facts["resumed"] else ""


def _print_report(done: list[dict[str, Any]], messages: MessageOptions, *, many: bool) -> None:
    from mst_deploy.cli.console import echo, print_result

    lines = [
        f"{facts['output']}  {facts['frames']} frames{_resumed(facts)}, {facts['width']}x{facts['height']}, "
        f"{facts['seconds']:.1f} s ({facts['fps']:.1f} fps, {facts['device']}; limit: {facts['limit']}, "
        f"busy {facts['stages'].get(facts['limit'], 0):.0%} of the time)"
        for facts in done
    ]
    values = {"outputs": done} if many or not done else done[0]
    if any(facts["output"] == "-" for facts in done):  # the standard output is the video's
        text = json.dumps(values) if messages.as_json else "\n".join(lines)
        echo(text, quiet=messages.quiet and not messages.as_json)
        return
    print_result("\n".join(lines), values, as_json=messages.as_json, quiet=messages.quiet)
