"""The command ``mst image``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mst_deploy.backends.registry import AUTO
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
    refuse_times,
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
from mst_deploy.cli.tasks import Failures
from mst_deploy.errors import BackendError, InputError, InvalidArgument
from mst_deploy.files import require_writable

if TYPE_CHECKING:
    from mst_deploy.image_files import PictureInfo
    from mst_deploy.size import Size


def image(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN...", help="Pictures, folders or patterns ('*.jpg').")
    ],
    style: StylesOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Result file; for several inputs, an existing folder."),
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
    model: ModelOption = None,
    backend: BackendOption = AUTO,
    precision: PrecisionOption = AUTO,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Make only the results that are not there yet.")
    ] = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylize pictures, with their transparency.

    Results are named IN-STYLE beside the inputs unless -o says otherwise.
    """
    from mst_deploy.cli.console import print_result
    from mst_deploy.image_files import IMAGE_SUFFIXES, MAX_PIXELS, limited_pixels
    from mst_deploy.jobs.inputs import expand, files_read
    from mst_deploy.size import Size

    style_timeline = timeline_of(
        style, strength, preserve_color, mask, background_style, timeline, strokes, stroke_size, seed
    )
    refuse_times(style_timeline)
    wanted = Size.parse(size) if size else Size()
    files = expand(inputs, IMAGE_SUFFIXES)
    many = len(files) > 1
    if many and output is not None and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    read = files_read(style_timeline, timeline, Path(model) if model else None, vgg)
    failures = Failures(many)
    gained: dict[str, Any] = {}
    made: list[Path] = []
    facts: dict[str, Any] = {}
    with limited_pixels(max_pixels or MAX_PIXELS):
        tasks = _find_tasks(files, style_timeline.label, output, failures, quiet)
        tasks = [task for task in tasks if _is_wanted(task, read, failures, force, resume, quiet)]
        if tasks:
            with Job(
                style_timeline,
                model,
                backend,
                device,
                optimize_style=optimize_style,
                vgg=vgg,
                precision=precision,
            ) as job:
                made = _make(tasks, job, wanted, failures, gained, quiet=quiet, shown=not (quiet or as_json))
            facts = {**job.facts(), **({"tuned": gained} if optimize_style else {})}
    names = [str(target) for target in made]
    if names or as_json:
        print_result("\n".join(names), {"outputs": names, **facts}, as_json=as_json, quiet=quiet)
    failures.summarize(len(files))


@dataclass(frozen=True)
class PictureTask:
    """One picture to make."""

    source: Path
    target: Path


def _find_tasks(
    files: list[Path], label: str, output: Path | None, failures: Failures, quiet: bool
) -> list[PictureTask]:
    """Return the tasks, known before the model is opened; inputs that are results of other inputs are left
    out."""
    from mst_deploy.cli.console import echo

    tasks: list[PictureTask] = []
    for path in files:
        with failures.of(path):
            tasks.append(_task(path, label, output, quiet))
    targets = {task.target.resolve() for task in tasks}
    if len(targets) < len(tasks):
        raise InvalidArgument("two inputs would be written to the same file; stylize them one by one")
    kept = []
    for task in tasks:
        if len(tasks) > 1 and task.source.resolve() in targets:
            echo(f"note: {task.source.name} is left out: it is the result of another input", quiet=quiet)
        else:
            kept.append(task)
    return kept


def _task(path: Path, label: str, output: Path | None, quiet: bool) -> PictureTask:
    """Return the task of an input. Raises InputError for files that are no pictures, OutputError for a result
    of no known kind."""
    from mst_deploy.image_files import IMAGE_SUFFIXES, check_writable, probe_picture, result_suffix
    from mst_deploy.jobs.inputs import VIDEO_SUFFIXES

    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES and suffix not in IMAGE_SUFFIXES and path.is_file():
        raise InputError(f"{path} is a video by its name; use mst video")
    info = probe_picture(path)
    name = f"{path.stem}-{label}{result_suffix(path, info)}"
    target = path.with_name(name) if output is None else output / name if output.is_dir() else output
    check_writable(target)
    note_further_frames(path, info, quiet=quiet)
    return PictureTask(path, target)


def note_further_frames(path: Path, info: PictureInfo, *, quiet: bool) -> None:
    """Tell of pages or frames of a picture file that are not stylized."""
    from mst_deploy.cli.console import echo

    if info.frames > 1 and info.kind == "TIFF":
        echo(f"note: {path.name} has {info.frames} pages; the first is stylized", quiet=quiet)
    elif info.frames > 1:
        way = "use mst video" if info.kind in ("GIF", "PNG") else f"mst video reads GIF, not {info.kind}"
        echo(f"note: {path.name} is animated; its first frame is stylized; {way}", quiet=quiet)


def _is_wanted(
    task: PictureTask, read: list[Path], failures: Failures, force: bool, resume: bool, quiet: bool
) -> bool:
    """Return whether a picture is still to be made; a target that must not be overwritten is reported as a
    failure."""
    from mst_deploy.cli.console import echo

    if resume and not force and task.target.exists():
        echo(f"note: {task.target} is there already; --force makes it again", quiet=quiet)
        return False
    wanted = False
    with failures.of(task.source):
        require_writable(task.target, task.source, force=force, read=read)
        wanted = True
    return wanted


def _make(
    tasks: list[PictureTask],
    job: Job,
    size: Size,
    failures: Failures,
    gained: dict[str, Any],
    *,
    quiet: bool,
    shown: bool,
) -> list[Path]:
    """Make all pictures, one after the other; results of style optimization are added to ``gained``."""
    from mst_deploy.cli.console import echo, progress
    from mst_deploy.image_files import load_picture, losses, save_image
    from mst_deploy.images import resize

    made = []
    with progress("stylizing", len(tasks), unit="pictures/s", quiet=not shown) as on_progress:
        for done, task in enumerate(tasks, start=1):
            with failures.of(task.source), enough_memory(task.source):
                style_plan, gain = job.plan_for(
                    task.source, on_progress=partial(on_progress, done - 1), quiet=not shown
                )
                picture = load_picture(task.source)
                width, height = size.applied(picture.image.shape[1], picture.image.shape[0])
                image = resize(picture.image, width, height)
                alpha = None if picture.alpha is None else resize(picture.alpha, width, height)
                save_image(task.target, job.stylizer.image(image, style_plan), alpha)
                made.append(task.target)
                job.tell_choice(quiet=quiet)
                gained |= {str(task.target): gain["tuned"]} if gain else {}
                for loss in losses(picture, task.target):
                    echo(f"note: not kept: {loss}", quiet=quiet)
            on_progress(done)
    return made


@contextmanager
def enough_memory(path: Path) -> Iterator[None]:
    """Convert failed allocations of Python and OpenCV for a picture to BackendError."""
    try:
        yield
    except MemoryError as error:
        raise BackendError(f"not enough memory for {path}; make it smaller with --size") from error
