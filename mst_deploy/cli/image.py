"""The command ``mst image``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mst_deploy.backends.options import GeneratorOptions
from mst_deploy.cli.job import Job, refuse_times
from mst_deploy.cli.options import LimitOptions, MessageOptions
from mst_deploy.cli.tasks import Failures
from mst_deploy.errors import BackendError, InputError, InvalidArgument
from mst_deploy.files import require_writable
from mst_deploy.jobs.options import ResultSize
from mst_deploy.options import INPUT_OUTPUT, Option
from mst_deploy.size import Size
from mst_deploy.styles.options import OptimizeStyleOptions, TimelineOptions

if TYPE_CHECKING:
    from mst_deploy.images.files import PictureInfo


@dataclass(frozen=True)
class ImageOptions:
    """Pictures to stylize, and where the results are written."""

    inputs: Annotated[
        tuple[Path, ...],
        Option("Pictures, folders or patterns ('*.jpg').", metavar="IN...", positional=True),
    ]
    output: Annotated[
        Path | None, Option("Result file; for several inputs, an existing folder.", INPUT_OUTPUT)
    ] = None
    size: ResultSize = field(default_factory=Size)
    limits: LimitOptions = field(default_factory=LimitOptions)
    resume: Annotated[bool, Option("Make only the results that are not there yet.", INPUT_OUTPUT)] = False
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False


def image(
    options: ImageOptions,
    style: TimelineOptions,
    optimize: OptimizeStyleOptions,
    model: GeneratorOptions,
    messages: MessageOptions,
) -> None:
    """Stylize pictures, with their transparency.

    Results are named IN-STYLE beside the inputs unless -o says otherwise.
    """
    from mst_deploy.cli.console import print_result
    from mst_deploy.images.files import IMAGE_SUFFIXES
    from mst_deploy.jobs.inputs import expand, files_read

    timeline = style.load()
    refuse_times(timeline)
    files = expand(options.inputs, IMAGE_SUFFIXES)
    many, output = len(files) > 1, options.output
    if many and output is not None and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    read = files_read(timeline, *style.files, model.folder, optimize.vgg)
    failures = Failures(many)
    gained: dict[str, Any] = {}
    made: list[Path] = []
    facts: dict[str, Any] = {}
    with options.limits.applied():
        tasks = _find_tasks(files, timeline.label, output, failures, messages.quiet)
        tasks = [task for task in tasks if _is_wanted(task, read, failures, options, messages.quiet)]
        if tasks:
            with Job(timeline, model, optimize) as job:
                made = _make(tasks, job, options.size, failures, gained, messages)
            facts = {**job.facts(), **({"tuned": gained} if optimize.optimize_style else {})}
    names = [str(target) for target in made]
    if names or messages.as_json:
        values = {"outputs": names, **facts}
        print_result("\n".join(names), values, as_json=messages.as_json, quiet=messages.quiet)
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
    from mst_deploy.images.files import IMAGE_SUFFIXES, check_writable, probe_picture, result_suffix
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
    """Note pages or frames of a picture file that are not stylized."""
    from mst_deploy.cli.console import echo

    if info.frames > 1 and info.kind == "TIFF":
        echo(f"note: {path.name} has {info.frames} pages; the first is stylized", quiet=quiet)
    elif info.frames > 1:
        way = "use mst video" if info.kind in ("GIF", "PNG") else f"mst video reads GIF, not {info.kind}"
        echo(f"note: {path.name} is animated; its first frame is stylized; {way}", quiet=quiet)


def _is_wanted(
    task: PictureTask, read: list[Path], failures: Failures, options: ImageOptions, quiet: bool
) -> bool:
    """Return whether a picture is still to be made; a target that must not be overwritten is reported as a
    failure."""
    from mst_deploy.cli.console import echo

    if options.resume and not options.force and task.target.exists():
        echo(f"note: {task.target} is there already; --force makes it again", quiet=quiet)
        return False
    wanted = False
    with failures.of(task.source):
        require_writable(task.target, task.source, force=options.force, read=read)
        wanted = True
    return wanted


def _make(
    tasks: list[PictureTask],
    job: Job,
    size: Size,
    failures: Failures,
    gained: dict[str, Any],
    messages: MessageOptions,
) -> list[Path]:
    """Make all pictures, one after the other; results of style optimization are added to ``gained``."""
    from mst_deploy.cli.console import echo, progress
    from mst_deploy.images import resize
    from mst_deploy.images.files import load_picture, losses, save_image

    made = []
    with progress("stylizing", len(tasks), unit="pictures/s", quiet=messages.silent) as on_progress:
        for done, task in enumerate(tasks, start=1):
            with failures.of(task.source), enough_memory(task.source):
                style_plan, gain = job.plan_for(
                    task.source, on_progress=partial(on_progress, done - 1), quiet=messages.silent
                )
                picture = load_picture(task.source)
                lost = losses(picture, task.target)
                width, height = size.applied(picture.image.shape[1], picture.image.shape[0])
                image = resize(picture.image, width, height)
                alpha = None if picture.alpha is None else resize(picture.alpha, width, height)
                stylized = job.stylizer.image(image, style_plan, partial(_add_part, on_progress, done - 1))
                del picture, image  # encoding a large picture takes as much memory again
                save_image(task.target, stylized, alpha)
                made.append(task.target)
                job.report_choice(quiet=messages.quiet)
                gained |= {str(task.target): gain["tuned"]} if gain else {}
                for loss in lost:
                    echo(f"note: not kept: {loss}", quiet=messages.quiet)
            on_progress(done)
    return made


def _add_part(on_progress: Callable[..., None], done: int, part: float) -> None:
    """Report finished pictures and the finished part of the next."""
    on_progress(done + part)


@contextmanager
def enough_memory(path: Path) -> Iterator[None]:
    """Convert failed allocations of Python and OpenCV for a picture to BackendError."""
    try:
        yield
    except MemoryError as error:
        raise BackendError(f"not enough memory for {path}; make it smaller with --size") from error
