"""Sinks of frames: their protocol and their kinds.

A new kind is one module with a class that has the members of ``FrameSink``, and one entry of ``SINKS``. Files
that are written in segments, so that they survive a crash, are in ``jobs.segments``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from mst_deploy.errors import OutputError
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.containers import goes_into_pipe
from mst_deploy.video.demuxing import is_sequence
from mst_deploy.video.info import Frame, VideoInfo, WriteReport
from mst_deploy.video.writer import open_writer


class FrameSink(Protocol):
    """Takes the frames of one result, in order."""

    written: int
    """Number of frames so far, including those of an earlier run."""

    @property
    def done(self) -> int:
        """Return the number of frames that an earlier run has written, which is the number of the next
        frame."""
        ...

    @property
    def complete(self) -> bool:
        """Return whether an earlier run has written every frame, and only ``finish`` is left."""
        ...

    @property
    def report(self) -> WriteReport:
        """Return the report on the result; available after ``finish``."""
        ...

    def write(self, frame: Frame) -> None:
        """Take one upright frame. Raises OutputError."""
        ...

    def flush(self) -> None:
        """Flush the encoder."""
        ...

    def finish(self) -> None:
        """Give the result its name. Raises OutputError."""
        ...

    def keep(self) -> str:
        """Keep the frames so far as a playable file after an interruption. Return where it is, or "" for no
        frame."""
        ...

    def abandon(self, error: BaseException) -> None:
        """Clean up after an error: leave no incomplete file under a final name."""
        ...


@dataclass(frozen=True)
class SinkSpec:
    """One kind of sink."""

    name: str
    accepts: Callable[[Path], bool]
    """Function that returns whether an output named by the user means this kind."""
    module: str
    """Name of the module, imported when the kind is used."""
    opener: str
    """Name of the function in the module: (path, VideoInfo, EncodeOptions) -> FrameSink."""
    encodes: bool = True
    """Whether ``EncodeOptions`` select an encoder for it."""


SINKS = [
    SinkSpec("pipe", goes_into_pipe, "mst_deploy.video.sinks", "FileSink"),
    SinkSpec("numbered pictures", is_sequence, "mst_deploy.video.sinks", "FileSink"),
    SinkSpec("file", lambda path: True, "mst_deploy.video.sinks", "FileSink"),
]
"""Kinds in the order in which they are tried; the first that accepts a name opens it."""


def spec_of(output: Path) -> SinkSpec:
    """Return the kind of sink that a name means. Raises OutputError."""
    for spec in SINKS:
        if spec.accepts(output):
            return spec
    raise OutputError(f"nothing here can write {output}; known are: {', '.join(spec.name for spec in SINKS)}")


def open_sink(output: Path, info: VideoInfo, options: EncodeOptions) -> FrameSink:
    """Open a result that is written in one piece. Raises OutputError, InvalidArgument, MissingDependency."""
    spec = spec_of(output)
    return cast(FrameSink, getattr(import_module(spec.module), spec.opener)(output, info, options))


class FileSink:
    """A result in one piece: an animation, a file that is not segmented, numbered pictures, standard
    output."""

    done = 0
    complete = False

    def __init__(self, path: Path, info: VideoInfo, options: EncodeOptions) -> None:
        self.path, self.written = path, 0
        # A file gets the name of an interrupted one first; finish() gives it its own.
        self.named = not (is_sequence(path) or goes_into_pipe(path))
        self.target = interrupted_name(path) if self.named else path
        self.open = ExitStack()
        self.writer = self.open.enter_context(open_writer(self.target, info, options))

    @property
    def report(self) -> WriteReport:
        return self.writer.report

    def write(self, frame: Frame) -> None:
        write_or_close(self, frame)

    def flush(self) -> None:
        self.open.close()

    def finish(self) -> None:
        self.flush()
        if self.named:
            self.target.replace(self.path)

    def keep(self) -> str:
        if not self.written:
            return ""
        self.open.close()
        return "" if goes_into_pipe(self.path) else f"the first {self.written} frames are in {self.target}"

    def abandon(self, error: BaseException) -> None:
        self.open.__exit__(type(error), error, error.__traceback__)


class _Writer(Protocol):
    def write(self, frame: Frame) -> None: ...


class _OpenFile(Protocol):
    open: ExitStack
    written: int

    @property
    def writer(self) -> _Writer | None: ...


def write_or_close(sink: _OpenFile, frame: Frame) -> None:
    """Write a frame to the sink's open writer and count it; an error closes its open files."""
    assert sink.writer is not None
    with ExitStack() as unless_it_fails:
        unless_it_fails.push(sink.open.pop_all())
        sink.writer.write(frame)
        sink.open = unless_it_fails.pop_all()
    sink.written += 1


def interrupted_name(output: Path) -> Path:
    """Return where the playable part of an interrupted job goes: ``out.interrupted.mp4``."""
    return output.with_name(f"{output.stem}.interrupted{output.suffix}")
