"""Tasks of ``mst video``: one for each input, with its result's name and what will be lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mst_deploy.cli.errors import one_line
from mst_deploy.errors import InputError, InvalidArgument, MstError, OutputError
from mst_deploy.files import require_writable

if TYPE_CHECKING:
    from mst_deploy.jobs.options import RenderOptions
    from mst_deploy.jobs.render_file import RenderResult
    from mst_deploy.video.info import VideoInfo


@dataclass(frozen=True)
class Task:
    """One video to make."""

    source: Path
    target: Path
    info: VideoInfo | None
    """None for a pipe, which can be opened only once."""

    @property
    def frames(self) -> int:
        """Return the number of frames as far as it is known in advance; else 0."""
        return self.info.frames if self.info else 0


@dataclass
class Failures:
    """Failed inputs: with several inputs a failure is reported and the rest goes on; with one it is
    raised."""

    many: bool
    paths: list[Path] = field(default_factory=list)

    @contextmanager
    def of(self, path: Path) -> Iterator[None]:
        from mst_deploy.cli.console import echo

        try:
            yield
        except MstError as error:
            if not self.many:
                raise
            self.paths.append(path)
            echo(f"mst: {path.name}: {one_line(error)}")

    def summarize(self, inputs: int) -> None:
        """Raise InputError if any of so many inputs failed."""
        if self.paths:
            names = ", ".join(map(str, self.paths))
            raise InputError(f"{len(self.paths)} of {inputs} inputs failed: {names}")


def find_tasks(
    files: list[Path],
    label: str,
    output: Path | None,
    options: RenderOptions,
    failures: Failures,
    quiet: bool,
    read: Sequence[Path] = (),
) -> list[Task]:
    """Return the tasks, with notes on what a result will not keep.

    ``read`` lists files that no result may overwrite.
    """
    from mst_deploy.cli.console import echo
    from mst_deploy.video.sinks import interrupted_name

    tasks: list[Task] = []
    for path in files:
        with failures.of(path):
            tasks.append(_task(path, label, output, options))
    targets = {task.target.resolve() for task in tasks}
    results = targets | {interrupted_name(target) for target in targets}
    if len(targets) < len(tasks):
        raise InvalidArgument("two inputs would be written to the same file; stylize them one by one")
    wanted = []
    for task in tasks:
        if len(tasks) > 1 and task.source.resolve() in results:
            echo(f"note: {task.source.name} is left out: it is the result of another input", quiet=quiet)
            continue
        with failures.of(task.source):
            if _is_wanted(task, options, quiet, read):
                wanted.append(task)
                report_losses(task, options, quiet)
    return wanted


def _task(path: Path, label: str, output: Path | None, options: RenderOptions) -> Task:
    from mst_deploy.video.containers import is_standard_output
    from mst_deploy.video.demuxing import PIPE, is_descriptor, is_pipe
    from mst_deploy.video.reader import VideoReader
    from mst_deploy.video.writer import default_suffix

    if output is not None and is_standard_output(output):
        output = PIPE
    if is_pipe(path) or is_descriptor(path):
        if output is None or output.is_dir():
            name = "the standard input" if path == PIPE else f"a pipe ({path})"
            raise InvalidArgument(f"{name} has no name for a result; name it with -o")
        return Task(path, output, None)
    with VideoReader(path, options.read) as reader:
        info = reader.info
    name = f"{stem_of(path)}-{label}{default_suffix(info, options.encode)}"
    if output is None:
        return Task(path, path.with_name(name), info)
    return Task(path, output / name if output.is_dir() else output, info)


def stem_of(path: Path) -> str:
    """What names of results begin with; of numbered pictures it is what comes before the number."""
    from mst_deploy.video.demuxing import is_pattern

    if is_pattern(path) and not path.exists():
        return path.stem.partition("%")[0] or "pictures"
    return path.stem


def _is_wanted(task: Task, options: RenderOptions, quiet: bool, read: Sequence[Path]) -> bool:
    """Return whether a result is still to be made. Raises OutputError when it must not be overwritten."""
    from mst_deploy.cli.console import echo
    from mst_deploy.files import refuse_to_overwrite
    from mst_deploy.jobs.journal import unfinished
    from mst_deploy.video.containers import goes_into_pipe
    from mst_deploy.video.demuxing import is_pattern, is_sequence, sequence_numbers

    if goes_into_pipe(task.target):
        return True
    sources = _pictures(task.source) if is_pattern(task.source) else [task.source]
    for target in _pictures(task.target) if is_sequence(task.target) else [task.target]:
        refuse_to_overwrite(target, sources, read)
    if is_sequence(task.target):
        if task.target.absolute() == task.source.absolute():
            raise OutputError(f"the output {task.target} is the input itself; choose another name with -o")
        if (numbers := sequence_numbers(task.target)) and not options.force:
            raise OutputError(
                f"{task.target.parent / (task.target.name % numbers[0])} already exists, and "
                f"{len(numbers) - 1} more pictures of that name; use --force to replace them, or -o for "
                "another name"
            )
        return True
    going_on = options.resume and unfinished(task.target)
    if options.resume and not going_on and not options.force and task.target.exists():
        echo(f"note: {task.target} is there already; --force makes it again", quiet=quiet)
        return False
    require_writable(task.target, None, force=options.force or going_on, read=read)
    return True


def _pictures(pattern: Path) -> list[Path]:
    """Return the files that match a pattern such as ``out%06d.png``, or the one file of that name."""
    from mst_deploy.video.demuxing import sequence_numbers

    if pattern.exists():
        return [pattern]
    return [pattern.with_name(pattern.name % number) for number in sequence_numbers(pattern)]


def report_losses(task: Task, options: RenderOptions, quiet: bool) -> None:
    from mst_deploy.cli.console import echo
    from mst_deploy.video.codecs import codec_of
    from mst_deploy.video.demuxing import is_sequence

    if task.info is None:
        return
    width, height = options.size.applied(task.info.width, task.info.height)
    subsampled = codec_of(task.target, options.encode) in (None, "h264", "hevc", "vp9")
    if (width % 2 or height % 2) and subsampled and not is_sequence(task.target):
        echo(
            f"note: {width}x{height} is odd, so the color is written in 4:4:4, which some players "
            f"cannot show; --size {width + width % 2}x{height + height % 2} avoids it",
            quiet=quiet,
        )
    if options.read.sdr and not task.info.tone_mapped:
        echo(f"note: {task.source.name} is not HDR; --sdr has no effect", quiet=quiet)
    for loss in task.info.not_kept:
        echo(f"note: not kept: {loss}", quiet=quiet)


def report_late_losses(task: Task, result: RenderResult, quiet: bool) -> None:
    """Report losses that are known only after the job; the others were reported before."""
    from mst_deploy.cli.console import echo

    reported = task.info.not_kept if task.info else ()
    for loss in result.not_kept:
        if loss not in reported:
            echo(f"note: not kept: {loss}", quiet=quiet)
    for harm in result.damage:
        echo(f"note: {task.source.name} is damaged: {harm}", quiet=quiet)
