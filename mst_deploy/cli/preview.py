"""What ``mst video --preview`` makes: stills of the result, without the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst_deploy.cli.options import MessageOptions
from mst_deploy.cli.tasks import Failures, stem_of
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import require_writable

if TYPE_CHECKING:
    from mst_deploy.cli.job import Job
    from mst_deploy.jobs.options import RenderOptions


@dataclass(frozen=True)
class PreviewTask:
    """The stills of one video."""

    source: Path
    targets: dict[Fraction, Path]
    """File names by time in seconds, in ascending order."""


def find_previews(
    files: Sequence[Path],
    label: str,
    times: Sequence[Fraction],
    output: Path | None,
    options: RenderOptions,
    failures: Failures,
    read: Sequence[Path],
) -> list[PreviewTask]:
    """What there is to make, known before the model is opened.

    Raises InvalidArgument where no name can be found, OutputError for a name that must not be taken.
    """
    from mst_deploy.video.time_ranges import time_label

    if options.resume:
        raise InvalidArgument("--preview starts no job, so there is none to resume; leave out one of the two")
    wanted = sorted(set(times))
    tasks = []
    for path in files:
        with failures.of(path):
            folder = _folder(path, output)
            stem = f"{stem_of(path)}-{label}"
            targets = {time: folder / f"{stem}-{time_label(time)}.png" for time in wanted}
            for target in targets.values():
                require_writable(target, path, force=options.force, read=read)
            tasks.append(PreviewTask(path, targets))
    names = [target for task in tasks for target in task.targets.values()]
    if len({name.resolve() for name in names}) < len(names):
        raise InvalidArgument("two stills would be written to the same file; preview them one by one")
    return tasks


def _folder(path: Path, output: Path | None) -> Path:
    from mst_deploy.video.demuxing import is_descriptor, is_pipe

    if is_pipe(path) or is_descriptor(path):
        raise InvalidArgument("--preview needs a file: a pipe is read only once, and gives stills no name")
    if output is None:
        return path.parent
    if output.is_dir():
        return output
    if output.suffix and output.parent.is_dir():  # the name of the result itself
        return output.parent
    raise InvalidArgument(
        field="output",
        problem=f"there is no folder {output} for the stills of --preview",
        hint="make it, or leave out [option:output] to have them beside the input",
    )


def make_previews(
    tasks: Sequence[PreviewTask],
    open_job: Callable[[], Job],
    options: RenderOptions,
    failures: Failures,
    messages: MessageOptions,
) -> None:
    """Write all stills and print their names; those of one video are written when all of them are made."""
    from mst_deploy.cli.console import print_result, progress

    names: list[str] = []
    facts: dict[str, Any] = {}
    if tasks:
        total = sum(len(task.targets) for task in tasks)
        with (
            open_job() as job,
            progress("previewing", total, unit="stills/s", quiet=messages.silent) as on_progress,
        ):
            facts = job.facts()
            gains: dict[str, Any] = {}
            for task in tasks:
                with failures.of(task.source):
                    gained = _make(
                        task, job, options, partial(on_progress, len(names)), quiet=messages.silent
                    )
                    names += map(str, task.targets.values())
                    job.report_choice(quiet=messages.quiet)
                    gains |= {str(task.source): gained["tuned"]} if gained else {}
            facts |= {"tuned": gains} if gains else {}
    if names or messages.as_json:
        print_result(
            "\n".join(names), {"outputs": names, **facts}, as_json=messages.as_json, quiet=messages.quiet
        )


def _make(
    task: PreviewTask, job: Job, options: RenderOptions, on_progress: Callable[[str], None], *, quiet: bool
) -> dict[str, Any]:
    """The stills of one video; returns what optimizing its styles brought."""
    from mst_deploy.cli.console import echo
    from mst_deploy.images.files import save_image
    from mst_deploy.video.sources import open_source

    style_plan, gained = job.plan_for(task.source, options.read, on_progress=on_progress, quiet=quiet)
    with open_source(task.source, options.read) as source:
        if source.info.color.hdr is not None:
            echo(
                f"note: {task.source.name} is {source.info.color.hdr}; the stills hold its values, which "
                "viewers of PNG show pale; --sdr maps them",
                quiet=quiet,
            )
        frames = list(
            job.stylizer.preview(
                source,
                style_plan,
                list(task.targets),
                size=options.size,
                batch=options.batch,
                deflicker=options.deflicker,
            )
        )
    for target, frame in zip(task.targets.values(), frames, strict=True):
        save_image(target, frame.image, frame.alpha)
    return gained
