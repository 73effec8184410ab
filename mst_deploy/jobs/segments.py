"""Results in segments: at regular frame numbers the file is closed and recorded in the journal.

Parts begin at fixed frame numbers, never where a job happened to stop, so a resumed job encodes the same
parts as one that was not interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mst_deploy.errors import InvalidArgument, Message
from mst_deploy.jobs.disk import check_during
from mst_deploy.jobs.journal import JOINED, PAINTED, PAINTING, Journal
from mst_deploy.video.codecs import EncodeOptions, segment_suffix
from mst_deploy.video.containers import AV_CONTAINERS
from mst_deploy.video.demuxing import is_pipe
from mst_deploy.video.info import Frame, VideoInfo, WriteReport
from mst_deploy.video.output_coding import encoder_settings
from mst_deploy.video.sinks import FrameSink, interrupted_name, open_sink, spec_of, write_or_close
from mst_deploy.video.writer import VideoWriter, join_segments, open_segment


@dataclass(frozen=True)
class SegmentOptions:
    """Options of a result that is written in parts."""

    settings: dict[str, str]
    """Everything the result depends on, as text; a job is resumed only with the same."""
    frames_each: int = 120
    """Frames of a part: a crash loses at most these. Every part begins with a key frame."""
    resume: bool = False
    """Resume an unfinished job if there is one."""
    force: bool = False
    """Discard an unfinished job."""

    def __post_init__(self) -> None:
        if self.frames_each < 1:
            raise InvalidArgument(
                field="frames_each", problem=f"a part must have at least 1 frame, got {self.frames_each}"
            )


class SegmentedSink:
    """A file that is written in parts, each recorded in the journal, then joined. Use :func:`open_output`."""

    def __init__(self, journal: Journal, source: VideoInfo, options: EncodeOptions, frames_each: int) -> None:
        self.journal, self.source = journal, source
        # The parts have another suffix than the result, and must not choose another codec by it.
        self.options = options.resolved(journal.output.suffix.lower(), source.depth, source.decoder)
        alpha = encoder_settings(journal.output, source, self.options).alpha
        self.suffix = segment_suffix(self.options, alpha=alpha)
        self.frames_each = frames_each
        self.done = self.written = journal.entries.frames
        self.open = ExitStack()
        self.writer: VideoWriter | None = None
        self.end: Fraction | None = None
        self.report = WriteReport()

    def write(self, frame: Frame) -> None:
        """Encode one upright frame; every so many the part is closed and entered."""
        if self.writer is None:
            self.check_room()
            self.writer = self.open.enter_context(
                open_segment(self.journal.path(self.name), self.source, self.options)
            )
        write_or_close(self, frame)
        self.end = (frame.pts + frame.duration) * self.source.time_base
        if self.written % self.frames_each == 0:
            self.flush()

    @property
    def complete(self) -> bool:
        """Return whether all frames are written and only joining is left."""
        return self.journal.entries.state != PAINTING

    def finish(self) -> None:
        """Join the parts, give the result its name, delete the parts. A crash at any step can be recovered
        from."""
        self.flush()
        journal, output = self.journal, self.journal.output
        whole = journal.path(output.name)
        if journal.entries.state != JOINED:
            journal.mark(PAINTED)
            self.join(whole, [part.name for part in journal.entries.parts])
            journal.mark(JOINED, whole)
        if whole.exists():  # else the crash came after this line
            whole.replace(output)
        interrupted_name(output).unlink(missing_ok=True)  # superseded
        journal.remove()

    def keep(self) -> str:
        """Join the finished parts to a playable file after an interruption. Return where it is; "" without a
        frame."""
        names = [part.name for part in self.journal.entries.parts]
        if self.writer is not None:
            self.writer = None
            self.open.close()
            names.append(self.name)
        if not names:
            return ""
        playable = interrupted_name(self.journal.output)
        self.join(playable, names, until=self.end)
        kept = f"the first {self.written} frames are in {playable}"
        going_on = "; the same command with [option:resume] goes on" if self.journal.entries.parts else ""
        return Message(kept + going_on)

    def abandon(self, error: BaseException) -> None:
        """Delete the open part after an error, and the folder too if nothing else is in it."""
        self.open.__exit__(type(error), error, error.__traceback__)
        if not self.journal.entries.parts:
            self.journal.remove()
        elif not getattr(error, "__notes__", ()):  # keep() has not reported it already
            frames = self.journal.entries.frames
            kept = f"the first {frames} frames are kept"
            error.add_note(Message(f"{kept}: the same command with [option:resume] goes on"))

    @property
    def name(self) -> str:
        """Return the file of the part that is being written."""
        return f"{len(self.journal.entries.parts):06d}{self.suffix}"

    def flush(self) -> None:
        """Flush the encoder and record the part."""
        if self.writer is None:
            return
        name, frames = self.name, self.written - self.journal.entries.frames
        self.writer = None
        self.open.close()
        self.journal.add(name, frames)

    def join(self, path: Path, names: list[str], until: Fraction | None = None) -> None:
        files = [self.journal.path(name) for name in names]
        self.report = join_segments(path, self.source, self.options, files, until=until, end=self.end)

    def check_room(self) -> None:
        sizes = [part.bytes for part in self.journal.entries.parts]
        check_during(self.journal.output, sum(sizes), max(sizes, default=0))


def in_parts(output: Path, source: Path) -> bool:
    """Return whether a result is written in parts, so that it can be resumed."""
    kinds = output.suffix.lower() in AV_CONTAINERS and spec_of(output).name == "file"
    return kinds and not is_pipe(source)


@contextmanager
def open_output(
    output: Path, source: VideoInfo, options: EncodeOptions, plan: SegmentOptions
) -> Iterator[FrameSink]:
    """Open the sink of a job; in parts where that is possible, with those of an earlier run.

    On an error finished parts are kept for ``resume``; with none, nothing is left. Raises OutputError, and
    InvalidArgument for an output that cannot be resumed.
    """
    if not in_parts(output, source.path):
        if plan.resume:
            raise InvalidArgument(
                field="resume",
                problem=f"{output} is written in one piece and cannot be resumed",
                hint="leave [option:resume] out",
            )
        yield from _guarded(open_sink(output, source, options))
        return
    with Journal(output) as journal:
        journal.begin(plan.settings, resume=plan.resume, force=plan.force)
        yield from _guarded(SegmentedSink(journal, source, options, plan.frames_each))


def _guarded(target: FrameSink) -> Iterator[FrameSink]:
    try:
        yield target
    except BaseException as error:
        target.abandon(error)
        raise
