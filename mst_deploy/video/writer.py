"""Writing of videos through PyAV: stylized frames at the times of their source, all else unchanged.

The writer rotates upright frames back to the source's orientation and stores its display matrix, so coded
size and rotation are kept. The YUV planes get the source's matrix and range, tagged in stream and container.
Everything besides the picture is copied (:mod:`mst_deploy.video.passthrough`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from mst_deploy.errors import MstError, OutputError
from mst_deploy.files import replacing
from mst_deploy.video.codecs import (
    EncodeOptions,
    EncoderSettings,
)
from mst_deploy.video.containers import (
    AV_CONTAINERS,
    MUXERS,
    PLAIN_WORDS,
    goes_into_pipe,
    muxer_of,
    muxer_options,
)
from mst_deploy.video.demuxing import PIPE, ffmpeg_name, is_sequence
from mst_deploy.video.encoding import (
    PictureEncoder,
    add_stream,
    end_last,
    say_alpha,
    start,
    storage_info,
    tag_stream,
)
from mst_deploy.video.info import Frame, VideoInfo, WriteReport
from mst_deploy.video.muxer_support import fits
from mst_deploy.video.output_coding import encoder_settings, losses_of_coding
from mst_deploy.video.passthrough import PassthroughStreams
from mst_deploy.video.sequences import EvenTimes, SequenceWriter
from mst_deploy.video.unseekable import Unseekable


class VideoWriter:
    """Writes upright frames and everything else of the source. Use through :func:`open_writer`."""

    def __init__(
        self,
        file: Any,
        muxer: str,
        source: VideoInfo,
        coding: EncoderSettings,
        options: EncodeOptions,
        *,
        passthrough: bool = True,
    ) -> None:
        self.even = EvenTimes(source) if muxer == "yuv4mpegpipe" else None
        source = storage_info(self.even.target if self.even else source, coding, muxer)
        self.source, self.coding = source, coding
        self.passthrough: PassthroughStreams | None = None
        settings = muxer_options(muxer, source, index_in_front=passthrough and isinstance(file, Path))
        target = ffmpeg_name(file) if isinstance(file, Path) else file
        self.container = av.open(target, "w", format=muxer, container_options=settings)
        try:
            stream = add_stream(self.container, source, coding)
            tag_stream(stream, source, coding.codec, muxer)
            say_alpha(stream, coding)
            self.encoder = PictureEncoder(stream, source, alpha=coding.alpha)
            if passthrough:
                self.passthrough = _add_passthrough(self.container, muxer, source, stream, options)
            start(self.container, stream, coding)
        except BaseException:
            self.container.close()
            raise

    @property
    def report(self) -> WriteReport:
        """Return the report on the file so far."""
        report = _report(self.coding, self.source, self.passthrough)
        return replace(report, not_kept=(*report.not_kept, *(self.even.losses if self.even else ())))

    def write(self, frame: Frame) -> None:
        """Encode one upright frame of the size in the source information."""
        if self.even:
            frame = self.even.numbered(frame)
        if self.passthrough:
            self.passthrough.copy_until(frame.pts * self.source.time_base)
        self.container.mux(self.encoder.encode(frame))

    def finish(self) -> None:
        """Flush the encoder and copy the rest of the other streams."""
        self.container.mux(self.encoder.encode(None))
        if self.passthrough:
            self.passthrough.finish()

    def close(self) -> None:
        """Close the files; the frames written so far can be played."""
        if self.passthrough:
            self.passthrough.close()
        self.container.close()


@contextmanager
def open_writer(
    path: Path, source: VideoInfo, options: EncodeOptions
) -> Iterator[VideoWriter | SequenceWriter]:
    """Open a writer whose file gets the name ``path`` only if the block ends without an error.

    ``-`` is standard output, as Matroska, or y4m with the codec ``raw``; ``out%06d.png`` are numbered
    pictures. Raises OutputError for outputs that cannot be written: suffix, codec, folder, disk.
    """
    if is_sequence(path):
        with SequenceWriter(path, source, options) as pictures:
            yield pictures
        return
    muxer = muxer_of(path, options.codec)
    coding = encoder_settings(path, source, options)
    if goes_into_pipe(path):
        name = "standard output" if path == PIPE else str(path)
        with _opened(Unseekable(path), name, muxer, source, coding, options) as writer:
            yield writer
        return
    with (
        replacing(path) as temporary,
        _opened(temporary, str(path), muxer, source, coding, options) as writer,
    ):
        yield writer


def probe_output(path: Path, source: VideoInfo, options: EncodeOptions) -> WriteReport:
    """Write all but the packets into memory, so that unsupported outputs fail before hours of work.

    Returns the report on the file that is known beforehand. Raises OutputError, BackendError.
    """
    muxer, coding = muxer_of(path, options.codec), encoder_settings(path, source, options)
    try:
        writer = VideoWriter(io.BytesIO(), muxer, source, coding, options)
    except av.FFmpegError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    with suppress(av.FFmpegError):  # some muxers want frames before they end
        writer.close()
    return writer.report


@contextmanager
def open_segment(path: Path, source: VideoInfo, options: EncodeOptions) -> Iterator[VideoWriter]:
    """Open a writer of only the picture, for a part of a long job; :func:`join_segments` joins the parts.

    The suffix must be :func:`segment_suffix`'s. The file gets its name when the block ends.
    """
    coding = encoder_settings(path, source, options)
    muxer = MUXERS[path.suffix]
    with (
        replacing(path) as temporary,
        _opened(temporary, str(path), muxer, source, coding, options, passthrough=False) as writer,
    ):
        yield writer


def join_segments(
    path: Path,
    source: VideoInfo,
    options: EncodeOptions,
    segments: Sequence[Path],
    *,
    until: Fraction | None = None,
    end: Fraction | None = None,
) -> WriteReport:
    """Mux the packets of closed segments, in order, with everything else of the source.

    The result has the streams, tags and other streams that :func:`open_writer` would have given it; no frame
    is encoded again. ``until`` (seconds) ends the other streams there, for a part of the source; ``end`` is
    the time at which the last frame ends, if known. Raises OutputError.
    """
    muxer = muxer_of(path, options.codec)
    coding = encoder_settings(path, source, options)
    settings = muxer_options(muxer, source, index_in_front=True)
    with replacing(path) as temporary:
        try:
            with ExitStack() as stack:
                container = av.open(ffmpeg_name(temporary), "w", format=muxer, container_options=settings)
                stack.enter_context(container)
                with av.open(ffmpeg_name(segments[0])) as first:
                    stream = container.add_stream_from_template(first.streams.video[0], opaque=True)
                tag_stream(stream, storage_info(source, coding, muxer), coding.codec, muxer)
                say_alpha(stream, coding)
                passthrough = _add_passthrough(container, muxer, source, stream, options)
                stack.callback(passthrough.close)
                for packet in _ended(joined_packets(segments), end):
                    passthrough.copy_until(packet.pts * packet.time_base)
                    packet.stream = stream
                    container.mux(packet)
                passthrough.finish(until)
        except av.FFmpegError as error:  # closing the file may raise as well
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return _report(coding, source, passthrough)


def joined_packets(segments: Sequence[Path]) -> Iterator[Any]:
    """Yield the video packets of all segments; decoding times that go back at a boundary are increased by one
    unit."""
    last: int | None = None
    for segment in segments:
        with av.open(ffmpeg_name(segment)) as container:
            for packet in container.demux(container.streams.video[0]):
                if not packet.size:
                    continue
                if last is not None and packet.dts is not None and packet.dts <= last:
                    packet.dts = last + 1
                last = packet.dts if packet.dts is not None else last
                yield packet


def _ended(packets: Iterator[Any], end: Fraction | None) -> Iterator[Any]:
    """Yield the packets; the duration of the last one ends the picture at the given time."""
    last: Any = None
    first: tuple[int, int] | None = None
    for packet in packets:
        first = first or (packet.pts, packet.dts)
        if last is not None:
            yield last
        last = packet
    if last is not None and first is not None and end is not None:
        end_last(last, *first, round(end / last.time_base))
    if last is not None:
        yield last


def default_suffix(info: VideoInfo, options: EncodeOptions | None = None) -> str:
    """Return the suffix of an output if none is named: the input's, else that of a container that holds all
    of it."""
    suffix = info.path.suffix.lower()
    if suffix in AV_CONTAINERS:
        return suffix
    options = options or EncodeOptions()
    return ".mp4" if fits(info, "mp4", options.audio, options.subtitles) else ".mkv"


@contextmanager
def _opened(
    file: Any,
    name: str,
    muxer: str,
    source: VideoInfo,
    coding: EncoderSettings,
    options: EncodeOptions,
    *,
    passthrough: bool = True,
) -> Iterator[VideoWriter]:
    try:
        writer = VideoWriter(file, muxer, source, coding, options, passthrough=passthrough)
        try:
            yield writer
            writer.finish()
        except BaseException:
            with suppress(av.FFmpegError, MstError):  # the first error is reported
                writer.close()
            if isinstance(file, Unseekable):
                with suppress(MstError):
                    file.close()
            raise
        writer.close()
        if isinstance(file, Unseekable):
            file.close()
    except av.FFmpegError as error:
        raise OutputError(f"cannot write {name}: {error.strerror or error}") from error


def _report(
    coding: EncoderSettings, source: VideoInfo, passthrough: PassthroughStreams | None
) -> WriteReport:
    losses = tuple(losses_of_coding(coding, source))
    if passthrough is None:
        return WriteReport(losses)
    return WriteReport((*losses, *passthrough.not_kept), passthrough.damage, tuple(passthrough.notes))


def _add_passthrough(
    container: Any, muxer: str, source: VideoInfo, stream: Any, options: EncodeOptions
) -> PassthroughStreams:
    passthrough = PassthroughStreams(
        source, container, muxer, audio=options.audio, subtitles=options.subtitles
    )
    passthrough.describe_picture(stream)
    if muxer in ("mp4", "mov") and not {word.lower() for word in container.metadata} <= PLAIN_WORDS:
        container.container_options["movflags"] += "+use_metadata_tags"
    return passthrough
