"""Segments from the middle of a video: the source of their frames, and the sink that stores them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from mst_deploy.errors import InputError, Message
from mst_deploy.jobs.batch.scan import SegmentScan, checksum
from mst_deploy.jobs.batch.segment_files import SegmentFiles
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.pipeline.stages import FramePreparer
from mst_deploy.video.codecs import segment_suffix
from mst_deploy.video.info import Frame, VideoInfo, WriteReport
from mst_deploy.video.output_coding import encoder_settings
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.sources import FrameSource
from mst_deploy.video.writer import VideoWriter, open_segment


class NotTheSameFrames(Exception):
    """Frames that were read from the middle are not those that the scan saw."""


class SegmentSink:
    """Takes the frames of some segments, and stores each segment when it is closed."""

    complete = False
    report = WriteReport()

    def __init__(
        self,
        files: SegmentFiles,
        folder: Path,
        target: VideoInfo,
        options: RenderOptions,
        scans: list[SegmentScan],
        made_by: str,
    ) -> None:
        output = Path(files.result)
        self.files, self.folder, self.target, self.made_by = files, folder, target, made_by
        self.options = options.encode.resolved(output.suffix.lower(), target.depth)
        alpha = encoder_settings(output, target, self.options).alpha
        self.suffix = segment_suffix(self.options, alpha=alpha)
        self.done = scans[0].lookback
        self.scans, self.current = scans, 0
        self.written = self.in_segment = 0
        self.started = time.perf_counter()
        self.open = ExitStack()
        self.writer: VideoWriter | None = None

    @property
    def path(self) -> Path:
        return self.folder / f"segment{self.suffix}"

    def write(self, frame: Frame) -> None:
        """Encode one frame; a segment that is full is stored."""
        if self.writer is None:
            self.writer = self.open.enter_context(open_segment(self.path, self.target, self.options))
        self.writer.write(frame)
        self.written += 1
        self.in_segment += 1
        scan = self.scans[self.current]
        if self.in_segment == len(scan.times) - scan.lookback:
            self._store(scan.number)

    def _store(self, number: int) -> None:
        self.writer = None
        self.open.close()
        now = time.perf_counter()
        self.files.put_segment(number, self.path, self.in_segment, now - self.started, self.made_by)
        self.current, self.in_segment, self.started = self.current + 1, 0, now

    def flush(self) -> None:
        """Do nothing: the last frame of a segment has stored it."""

    def finish(self) -> None:
        """Do nothing: a segment is no result."""

    def keep(self) -> str:
        """Keep nothing but the stored segments."""
        return ""

    def abandon(self, error: BaseException) -> None:
        self.close()

    def close(self) -> None:
        """Discard a segment that is not full."""
        if self.writer is not None:
            self.writer = None
            error = InputError("the segment was not finished")
            self.open.__exit__(type(error), error, None)


def frames_of(
    reader: FrameSource,
    scans: list[SegmentScan],
    frames_each: int,
    preparer: FramePreparer,
    *,
    seek: bool,
) -> Generator[Frame, None, None]:
    """Prepare ``preparer`` for the middle of a video, and yield the frames of consecutive segments, those
    before them that they depend on first. Every frame is compared with the scan.

    Without ``seek`` all frames before are read. Raises NotTheSameFrames.
    """
    expected = list(
        chain.from_iterable(
            zip(scan.times[:, 0].tolist(), scan.checksums.tolist(), strict=True)
            if scan is scans[0]
            else zip(
                scan.times[scan.lookback :, 0].tolist(),
                scan.checksums[scan.lookback :].tolist(),
                strict=True,
            )
            for scan in scans
        )
    )
    frames = iter(reader)
    first = next(frames)
    preparer.continue_from(first, scans[0].canvas)
    start = expected[0][0]
    before = scans[0].number * frames_each - scans[0].lookback
    if before == 0:
        frames = chain([first], frames)
    elif seek and isinstance(reader, VideoReader) and reader.restart_at(start):
        frames = iter(reader)
    return _compared(frames, expected, reader.info)


def _compared(
    frames: Iterator[Frame], expected: list[tuple[int, int]], info: VideoInfo
) -> Generator[Frame, None, None]:
    number = 0
    for frame in frames:
        if number == 0 and frame.pts < expected[0][0]:
            continue
        if (frame.pts, checksum(frame)) != expected[number]:
            raise NotTheSameFrames(Message(f"at {float(frame.pts * info.time_base):.3f} s"))
        number += 1
        yield frame
        if number == len(expected):
            return
    raise NotTheSameFrames(f"only {number} of {len(expected)} frames were found")
