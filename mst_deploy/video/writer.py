"""Writing of videos through PyAV: stylized frames at the times of their source, all else unchanged.

The writer rotates upright frames back to the source's orientation and stores its display matrix, so coded
size and rotation are kept. The YUV planes get the source's matrix and range, tagged in stream and container.
Everything besides the picture is copied (:mod:`mst_deploy.video.passthrough`).
"""

from __future__ import annotations

import io
import os
import sys
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
    CODECS,
    EncodeOptions,
    EncoderSettings,
    keeps_alpha,
    keeps_depth,
    segment_suffix,
    settings_for,
)
from mst_deploy.video.color import BT2020_NC
from mst_deploy.video.containers import (
    AV_CONTAINERS,
    CONTAINERS,
    MUXERS,
    PLAIN_WORDS,
    goes_into_pipe,
    muxer_of,
    muxer_options,
    pipe_suffix,
)
from mst_deploy.video.demuxing import PIPE, ffmpeg_name, is_sequence
from mst_deploy.video.encoding import (
    PictureEncoder,
    add_stream,
    coded_size,
    end_last,
    holds_mastering,
    say_alpha,
    start,
    storage_info,
    tag_stream,
)
from mst_deploy.video.info import Frame, VideoInfo, WriteReport
from mst_deploy.video.passthrough import PassthroughStreams, fits
from mst_deploy.video.sequences import EvenTimes, SequenceWriter

__all__ = [
    "CODECS",
    "CONTAINERS",
    "EncodeOptions",
    "SequenceWriter",
    "VideoWriter",
    "WriteReport",
    "default_suffix",
    "encoder_of",
    "encoder_settings",
    "join_segments",
    "joined_packets",
    "open_segment",
    "open_writer",
    "probe_output",
    "segment_suffix",
]


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
    with replacing(path) as temporary, ExitStack() as stack:
        try:
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
            stack.close()
        except av.FFmpegError as error:
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


class Unseekable:
    """Standard output, or a pipe, as a file for a muxer: it can be written but not sought.

    Raises OutputError for a terminal, and for outputs that cannot be opened.
    """

    def __init__(self, path: Path = PIPE) -> None:
        self.path, self.file = path, sys.stdout.buffer
        self.name = "the standard output" if path == PIPE else str(path)
        if path != PIPE:
            try:
                self.file = path.open("wb")
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}; check the name") from error
        if self.file.isatty():
            if path != PIPE:
                self.file.close()
            raise OutputError(
                f"{self.name} is a terminal, which cannot show a video; send it to a file or a "
                "program (> out.mkv, | ...), or name a file with [option:output]"
            )

    def write(self, data: bytes) -> int:
        """Write bytes. Raises OutputError when the reader has closed the pipe."""
        try:
            return self.file.write(data)
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # for what is still buffered
            raise OutputError(f"nobody reads {self.name} any more") from error

    def close(self) -> None:
        """Flush the buffer; the standard output itself stays open."""
        try:
            self.file.flush()
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
            raise OutputError(f"nobody reads {self.name} any more") from error
        finally:
            if self.path != PIPE:
                self.file.close()


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


def encoder_settings(path: Path, source: VideoInfo, options: EncodeOptions) -> EncoderSettings:
    """Return codec, encoder and pixel format for this output. Raises OutputError, BackendError."""
    suffix = path.suffix.lower()
    if goes_into_pipe(path):
        suffix = pipe_suffix(path, options.codec)
    chosen = options.resolved(suffix, source.depth, source.decoder)
    if source.color.hdr and not keeps_depth(chosen):
        raise OutputError(
            f"{source.path} is HDR ({source.color.hdr}), and {chosen.codec} is written in 8 bits; "
            f"use {_deep_codecs(suffix)}[option:sdr]"
        )
    if source.color.hdr and not chosen.known.tags:
        raise OutputError(
            f"{source.path} is HDR ({source.color.hdr}), which y4m cannot say of itself; use "
            "[option:sdr], or a .mkv file"
        )
    assert chosen.codec is not None  # resolved
    muxer = "nut" if suffix == ".nut" else muxer_of(path, options.codec)
    alpha = source.alpha and keeps_alpha(chosen.codec, muxer)
    return settings_for(chosen, *coded_size(source), source.depth, alpha=alpha)


def _deep_codecs(suffix: str) -> str:
    """Return a description of the codecs that keep HDR in such a file."""
    if suffix == ".webm":
        return "[option:codec] av1, or "
    return (
        "[option:codec] hevc, or " if suffix in AV_CONTAINERS else "a .mkv file without [option:codec], or "
    )


def encoder_of(path: Path, source: VideoInfo, options: EncodeOptions) -> str:
    """Return the name of the encoder of this output. Raises OutputError, BackendError."""
    if is_sequence(path):
        return path.suffix[1:].lower()
    muxer_of(path, options.codec)  # refuses a suffix that nothing is written to
    return encoder_settings(path, source, options).encoder


def _report(
    coding: EncoderSettings, source: VideoInfo, passthrough: PassthroughStreams | None
) -> WriteReport:
    losses = tuple(_losses_of_coding(coding, source))
    if passthrough is None:
        return WriteReport(losses)
    return WriteReport((*losses, *passthrough.not_kept), passthrough.damage, tuple(passthrough.notes))


def _losses_of_coding(coding: EncoderSettings, source: VideoInfo) -> Iterator[str]:
    if source.depth > 8 and CODECS[coding.codec].deep is None:
        yield f"{source.depth}-bit color ({coding.codec} is written in 8 bits; hevc and av1 keep 10)"
    if source.alpha and not coding.alpha:
        yield f"transparency ({coding.codec} in this file has none; vp9 in .webm and prores in .mov do)"
    if not CODECS[coding.codec].tags and source.color.primaries == BT2020_NC:
        yield "the primaries of BT.2020 (y4m cannot name them)"
    if source.mastering is not None and not holds_mastering(coding):
        yield f"data on the mastering display ({coding.encoder} cannot be given it)"
    if coding.codec in ("gif", "webp", "raw") and source.sample_aspect_ratio != 1:
        yield f"pixels that are not square ({source.sample_aspect_ratio})"
    if coding.codec == "gif":
        yield "times (gif counts hundredths of a second) and all but 256 colors a frame"


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
