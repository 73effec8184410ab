"""The command ``mst video``: one video or many."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
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
    info: VideoInfo | None
    """None for a pipe, which can be opened only once."""

    @property
    def frames(self) -> int:
        """As far as is known before."""
        return self.info.frames if self.info else 0


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
    preserve_color: PreserveOption = False,
    mask: MaskOption = None,
    outside: OutsideOption = None,
    timeline: TimelineOption = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin here: seconds or [HH:]MM:SS.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End before this moment.")] = None,
    every: Annotated[
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
    hw: Annotated[
        str, typer.Option(help="NVIDIA's decoder and encoder: off, on, or auto (where they can).")
    ] = "off",
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
    from mst_deploy.codecs import EncodeOptions, parse_bitrate
    from mst_deploy.console import say
    from mst_deploy.inputs import VIDEO_SUFFIXES, expand
    from mst_deploy.job import JobOptions
    from mst_deploy.pipeline import Size
    from mst_deploy.spans import Span
    from mst_deploy.video_info import ReadOptions

    looks = timeline_of(style, strength, preserve_color, mask, outside, timeline)
    options = JobOptions(
        read=ReadOptions(Span.parse(start, end, every), sdr, hw, parse_rate(rate)),
        size=Size.parse(size) if size else Size(),
        encode=EncodeOptions(codec, crf, None if bitrate is None else parse_bitrate(bitrate), hw),
        batch=batch,
        resume=resume,
        force=force,
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
            tasks.append(_task(path, label, output, options))
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


def _task(path: Path, label: str, output: Path | None, options: JobOptions) -> Task:
    from mst_deploy.demuxing import PIPE
    from mst_deploy.video import VideoReader
    from mst_deploy.video_writer import default_suffix

    if path == PIPE:
        if output is None or output.is_dir():
            raise InvalidArgument("the standard input has no name; name the result with -o")
        return Task(path, output, None)
    with VideoReader(path, options.read) as reader:
        info = reader.info
    stem = path.stem.partition("%")[0] or "pictures"  # of numbered ones
    name = f"{stem if '%' in path.stem else path.stem}-{label}{default_suffix(info)}"
    if output is None:
        return Task(path, path.with_name(name), info)
    return Task(path, output / name if output.is_dir() else output, info)


def _is_wanted(task: Task, options: JobOptions, quiet: bool) -> bool:
    """Whether a result is still to be made. Raises OutputError when its name must not be taken."""
    from mst_deploy.console import say
    from mst_deploy.demuxing import PIPE
    from mst_deploy.journal import unfinished

    if task.target == PIPE:
        return True
    going_on = options.resume and unfinished(task.target)
    if options.resume and not going_on and not options.force and task.target.exists():
        say(f"note: {task.target} is there already; --force makes it again", quiet=quiet)
        return False
    free_to_write(task.target, task.source, force=options.force or going_on)
    return True


def _notes(task: Task, options: JobOptions, quiet: bool) -> None:
    from mst_deploy.console import say

    if task.info is None:
        return
    width, height = options.size.applied(task.info.width, task.info.height)
    if (width % 2 or height % 2) and options.encode.codec in (None, "h264", "hevc", "vp9"):
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

    total = sum(task.frames for task in tasks)
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
                made.append(_facts(result, job))
                _notes_after(task, result, quiet)
            before += task.frames
    return made


def _notes_after(task: Task, result: Result, quiet: bool) -> None:
    """What only the finished job knows; the rest was said before."""
    from mst_deploy.console import say

    said = task.info.not_kept if task.info else ()
    for loss in result.not_kept:
        if loss not in said:
            say(f"note: not kept: {loss}", quiet=quiet)
    for harm in result.damage:
        say(f"note: {task.source.name} is damaged: {harm}", quiet=quiet)


def _facts(result: Result, job: Job) -> dict[str, Any]:
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
        **job.facts(),
    }


def parse_rate(text: str | None) -> Fraction | None:
    """``25``, ``23.976`` or ``24000/1001``, exactly. Raises InvalidArgument."""
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InvalidArgument(f"cannot use {text!r} as a rate: give frames a second (25, 24000/1001)")
    return rate


def _tell(done: list[dict[str, Any]], *, as_json: bool, quiet: bool, many: bool) -> None:
    from mst_deploy.console import answer, say

    lines = [
        f"{facts['output']}  {facts['frames']} frames, {facts['width']}x{facts['height']}, "
        f"{facts['seconds']:.1f} s ({facts['fps']:.1f} fps, {facts['device']}; limit: {facts['limit']}, "
        f"busy {facts['stages'].get(facts['limit'], 0):.0%} of the time)"
        for facts in done
    ]
    values = {"outputs": done} if many or not done else done[0]
    if any(facts["output"] == "-" for facts in done):  # the standard output is the video's
        say(json.dumps(values) if as_json else "\n".join(lines), quiet=quiet and not as_json)
        return
    answer("\n".join(lines), values, as_json=as_json, quiet=quiet)
