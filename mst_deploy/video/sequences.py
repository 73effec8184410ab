"""Outputs that have a rate but no times: numbered pictures (``out%06d.png``) and y4m."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.files import hidden_folder
from mst_deploy.images import IMAGE_SUFFIXES, save_image
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.demuxing import sequence_numbers
from mst_deploy.video.info import Frame, VideoInfo, WriteReport


class SequenceWriter:
    """Writes upright frames as pictures from number 1; all get their names when the block ends without an
    error."""

    def __init__(self, pattern: Path, source: VideoInfo, options: EncodeOptions) -> None:
        sequence_numbers(pattern)  # refuses what is no pattern
        if pattern.suffix.lower() not in IMAGE_SUFFIXES:
            known = ", ".join(IMAGE_SUFFIXES)
            raise InvalidArgument(
                field="output",
                problem=f"cannot write {pattern}: unknown picture type",
                hint=f"use one of {known}",
            )
        if options.codec not in (None, "png") or options.crf is not None or options.bitrate is not None:
            raise InvalidArgument(
                field="codec",
                problem=f"{pattern.name} names pictures",
                hint="leave [option:codec], [option:crf] and [option:bitrate] out",
            )
        if source.color.hdr:
            raise OutputError("numbered pictures hold no HDR; use [option:sdr]")
        self.pattern, self.source, self.written = pattern, source, 0
        self.open = ExitStack()

    @property
    def report(self) -> WriteReport:
        """Return descriptions of what numbered pictures cannot keep of the source."""
        rate = f"{float(self.source.rate):.5g}"
        losses = [f"times and everything beside the picture (numbered pictures; {rate} a second)"]
        if self.source.sample_aspect_ratio != 1:
            losses.append(f"pixels that are not square ({self.source.sample_aspect_ratio})")
        if self.source.alpha:
            losses.append("transparency (numbered pictures are written opaque)")
        return WriteReport(tuple(losses))

    def __enter__(self) -> Self:
        folder = self.pattern.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write into the folder {folder}: {error.strerror}") from error
        self.folder = self.open.enter_context(hidden_folder(folder, "pictures")) / "finished"
        self.folder.mkdir()
        return self

    def write(self, frame: Frame) -> None:
        """Save one upright frame under the next number."""
        self.written += 1
        save_image(self.folder / (self.pattern.name % self.written), frame.image)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for number in sequence_numbers(self.pattern):
                    if not 1 <= number <= self.written:  # of a longer sequence that this one replaces
                        (self.pattern.parent / (self.pattern.name % number)).unlink()
                for picture in sorted(self.folder.iterdir()):
                    picture.replace(self.pattern.parent / picture.name)
        finally:
            self.open.close()


class EvenTimes:
    """Frames at even times, for a file that has a rate but no times: y4m."""

    def __init__(self, source: VideoInfo) -> None:
        self.source = source
        self.target = replace(source, time_base=1 / source.rate)
        self.count, self.start, self.moved = 0, Fraction(0), Fraction(0)

    def numbered(self, frame: Frame) -> Frame:
        """Return the frame with the time of its number."""
        time = frame.pts * self.source.time_base
        if self.count == 0:
            self.start = time
        self.moved = max(self.moved, abs(time - self.start - self.count / self.source.rate))
        self.count += 1
        return replace(frame, pts=self.count - 1, duration=1)

    @property
    def losses(self) -> tuple[str, ...]:
        """Return descriptions of times that numbers cannot represent."""
        if self.moved * self.source.rate <= Fraction(1, 2):
            return ()
        rate = f"{float(self.source.rate):.5g}"
        return (
            f"times (y4m has an even rate, here {rate} a second; off by up to {float(self.moved):.3g} s)",
        )
