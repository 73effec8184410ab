"""The command ``mst video``: one video or many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mst_deploy.cli_job import (
    Job,
    MaskOption,
    OutsideOption,
    PreserveOption,
    StrengthsOption,
    StylesOption,
    TimelineOption,
    timeline_of,
)
from mst_deploy.errors import InputError, InvalidArgument, MstError, error_line
from mst_deploy.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SizeOption,
    free_to_write,
)

if TYPE_CHECKING:
    from mst_deploy.job import JobOptions, Result
    from mst_deploy.video import VideoInfo


@dataclass(frozen=True)
class Task:
    """One video to make."""

    source: Path
    target: Path
    info: VideoInfo


@dataclass
class Failures:
    """Of several inputs one that fails is told and left out; of one it is the command's error."""

    many: bool
    paths: list[Path] = field(default_factory=list)

    @contextmanager
    def of(self, path: Path) -> Iterator[None]:
        from mst_deploy.console import say

        try:
            yield
        except MstError as error:
            if not self.many:
                raise
            self.paths.append(path)
            say(f"mst: {path.name}: {error_line(error)}")


def video(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN...", help="Videos to stylise: files, folders or patterns ('*.mp4')."),
    ],
    style: StylesOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Result: .mp4, .m4v, .mov or .mkv; for several inputs, an existing folder."
        ),
    ] = None,
    size: SizeOption = None,
    strength: StrengthsOption = None,
    preserve_color: PreserveOption = False,
    mask: MaskOption = None,
    outside: OutsideOption = None,
    timeline: TimelineOption = None,
    codec: Annotated[str, typer.Option(help="h264, hevc, av1, vp9 or ffv1.")] = "h264",
    crf: Annotated[
        int | None,
        typer.Option(help="Coding quality; lower is better and larger. Default: no visible loss."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what a crash or Ctrl-C left unfinished.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Frames in one call of the model, for GPUs.")] = 1,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylise videos: same frames at the same times, the sound untouched.

    Results are named IN-STYLE beside the inputs unless -o says otherwise. Ctrl-C keeps what is done as a
    file that plays; --resume makes the rest.
    """
    from mst_deploy.console import say
    from mst_deploy.inputs import VIDEO_SUFFIXES, expand
    from mst_deploy.job import JobOptions
    from mst_deploy.pipeline import Size
    from mst_deploy.video_writer import EncodeOptions

    looks = timeline_of(style, strength, preserve_color, mask, outside, timeline)
    options = JobOptions(
        Size.parse(size) if size else Size(), EncodeOptions(codec, crf), batch, resume=resume, force=force
    )
    files = expand(inputs, VIDEO_SUFFIXES)
    many = len(files) > 1
    if many and output and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    failures = Failures(many)
    tasks = _tasks(files, looks.label, output, options, failures, quiet)
    made: list[dict[str, Any]] = []
    try:
        if tasks:
            with Job(looks, model, backend, device) as job:
                made = _make(tasks, job, options, failures, quiet=quiet or as_json)
    except KeyboardInterrupt as stop:
        say("; ".join(["mst: interrupted", *getattr(stop, "__notes__", ())]))
        raise typer.Exit(130) from None
    _tell(made, as_json=as_json, quiet=quiet, many=many)
    if failures.paths:
        names = ", ".join(map(str, failures.paths))
        raise InputError(f"{len(failures.paths)} of {len(files)} inputs failed: {names}")


def _tasks(
    files: list[Path], label: str, output: Path | None, options: JobOptions, failures: Failures, quiet: bool
) -> list[Task]:
    """What there is to make, with notes on what a result will not have."""
    from mst_deploy.console import say

    tasks: list[Task] = []
    for path in files:
        with failures.of(path):
            tasks.append(_task(path, label, output))
    results = {task.target.resolve() for task in tasks}
    if len(results) < len(tasks):
        raise InvalidArgument("two inputs would be written to the same file; stylise them one by one")
    wanted = []
    for task in tasks:
        if len(tasks) > 1 and task.source.resolve() in results:
            say(f"note: {task.source.name} is left out: it is the result of another input", quiet=quiet)
            continue
        with failures.of(task.source):
            if _is_wanted(task, options, quiet):
                wanted.append(task)
                _notes(task, options, quiet)
    return wanted


def _task(path: Path, label: str, output: Path | None) -> Task:
    from mst_deploy.video import VideoReader
    from mst_deploy.video_writer import default_suffix

    with VideoReader(path) as reader:
        info = reader.info
    name = f"{path.stem}-{label}{default_suffix(info)}"
    if output is None:
        return Task(path, path.with_name(name), info)
    return Task(path, output / name if output.is_dir() else output, info)


def _is_wanted(task: Task, options: JobOptions, quiet: bool) -> bool:
    """Whether a result is still to be made. Raises OutputError when its name must not be taken."""
    from mst_deploy.console import say
    from mst_deploy.journal import unfinished

    going_on = options.resume and unfinished(task.target)
    if options.resume and not going_on and not options.force and task.target.exists():
        say(f"note: {task.target} is there already; --force makes it again", quiet=quiet)
        return False
    free_to_write(task.target, task.source, force=options.force or going_on)
    return True


def _notes(task: Task, options: JobOptions, quiet: bool) -> None:
    from mst_deploy.console import say

    width, height = options.size.applied(task.info.width, task.info.height)
    if width % 2 or height % 2:
        say(
            f"note: {width}x{height} is odd, so the colour is written in 4:4:4, which some players "
            f"cannot show; --size {width + width % 2}x{height + height % 2} avoids it",
            quiet=quiet,
        )
    for loss in task.info.not_kept:
        say(f"note: not kept: {loss}", quiet=quiet)


def _make(
    tasks: list[Task], job: Job, options: JobOptions, failures: Failures, *, quiet: bool
) -> list[dict[str, Any]]:
    """All videos, one after the other, with one progress display over all their frames."""
    from mst_deploy.console import progress, say
    from mst_deploy.job import Listener, stylize_video

    total = sum(task.info.frames for task in tasks)
    label = tasks[0].source.name if len(tasks) == 1 else f"{len(tasks)} videos"
    made, before = [], 0
    with progress(f"{label} ({job.generator.device})", total, quiet=quiet) as tell:
        for number, task in enumerate(tasks, start=1):
            note = f"{number}: {task.source.name}" if len(tasks) > 1 else ""
            listener = Listener(
                on_frame=partial(lambda before, note, done: tell(before + done, note), before, note),
                on_note=lambda text: say(f"note: {text}", quiet=quiet),
            )
            with failures.of(task.source):
                result = stylize_video(task.source, task.target, job.generator, job.looks, options, listener)
                made.append(_facts(task, result, job))
            before += task.info.frames
    return made


def _facts(task: Task, result: Result, job: Job) -> dict[str, Any]:
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
        "not_kept": list(task.info.not_kept),
        **job.facts(),
    }


def _tell(done: list[dict[str, Any]], *, as_json: bool, quiet: bool, many: bool) -> None:
    from mst_deploy.console import answer

    lines = [
        f"{facts['output']}  {facts['frames']} frames, {facts['width']}x{facts['height']}, "
        f"{facts['seconds']:.1f} s ({facts['fps']:.1f} fps, {facts['device']}; limit: {facts['limit']}, "
        f"busy {facts['stages'].get(facts['limit'], 0):.0%} of the time)"
        for facts in done
    ]
    values = {"outputs": done} if many or not done else done[0]
    answer("\n".join(lines), values, as_json=as_json, quiet=quiet)
