"""Writing video files through PyAV: stylised frames at the times of their source, sound untouched.

The writer turns upright frames back to how the source was coded and stores its display matrix, so
coded size and rotation survive. The YUV planes get the source's matrix and range, tagged in stream and
container. Audio packets are copied byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.files import replacing
from mst_deploy.other_streams import MUXERS, OtherStreams
from mst_deploy.video import SCALING, Frame, VideoInfo


@dataclass(frozen=True)
class Codec:
    """An encoder and its scale of constant quality."""

    encoder: str
    default_crf: int | None
    """None: lossless, there is no quality to choose."""
    largest_crf: int = 0


CODECS = {
    "h264": Codec("libx264", 18, 51),
    "hevc": Codec("libx265", 20, 51),
    "av1": Codec("libsvtav1", 24, 63),
    "vp9": Codec("libvpx-vp9", 24, 63),
    "ffv1": Codec("ffv1", None),
}
"""By the name that --codec takes. The default qualities show no loss."""
CONTAINERS = tuple(MUXERS)
MP4_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
"""Audio that players expect inside an mp4."""

FRAME_DURATION_FLAG = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: packets carry their frames' durations


@dataclass(frozen=True)
class EncodeOptions:
    """How the output is coded."""

    codec: str = "h264"
    crf: int | None = None
    """Constant rate factor: lower is better and larger. None means the codec's default."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InvalidArgument(f"unknown codec {self.codec!r}; choose one of {', '.join(CODECS)}")
        codec = CODECS[self.codec]
        if self.crf is not None and codec.default_crf is None:
            raise InvalidArgument(f"{self.codec} is lossless and has no crf; leave --crf out")
        if self.crf is not None and not 0 <= self.crf <= codec.largest_crf:
            raise InvalidArgument(
                f"crf of {self.codec} must be between 0 and {codec.largest_crf}, got {self.crf}"
            )

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return CODECS[self.codec].encoder

    @property
    def encoder_options(self) -> dict[str, str]:
        """What is set on the encoder."""
        crf = CODECS[self.codec].default_crf if self.crf is None else self.crf
        return {} if crf is None else {"crf": str(crf)}


class PictureEncoder:
    """Turns upright frames into packets of one stream: turned back, converted, encoded."""

    def __init__(self, stream: Any, source: VideoInfo) -> None:
        self.stream, self.source = stream, source
        self.reformatter = VideoReformatter()

    def encode(self, frame: Frame | None) -> list[Any]:
        """Packets that are ready after one more upright frame; None flushes the encoder."""
        return list(self.stream.encode(None if frame is None else self._coded(frame)))

    def _coded(self, frame: Frame) -> Any:
        image = np.rot90(frame.image, -self.source.quarter_turns)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        colour = self.source.colour
        coded: Any = self.reformatter.reformat(
            picture,
            format=self.stream.pix_fmt,
            src_colorspace=colour.scaler_matrix,
            dst_colorspace=colour.scaler_matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=colour.range,
            interpolation=SCALING,
        )
        colour.apply(coded)
        coded.pts, coded.time_base = frame.pts, self.source.time_base
        coded.duration = frame.duration
        return coded


class VideoWriter:
    """Writes upright frames and everything else of the source. Use through :func:`open_writer`."""

    def __init__(self, path: Path, source: VideoInfo, options: EncodeOptions, *, others: bool = True) -> None:
        self.source = source
        self.path = path
        self.container = av.open(path, "w", options=_muxer_options(path, source, index_in_front=others))
        self.others: OtherStreams | None = None
        try:
            stream = _add_stream(self.container, path, source, options)
            self.encoder = PictureEncoder(stream, source)
            if others:
                self.others = _with_others(self.container, path, source, stream)
        except BaseException:
            self.container.close()
            raise

    @property
    def not_kept(self) -> tuple[str, ...]:
        """What of the source this file has no room for, in words."""
        return tuple(self.others.not_kept) if self.others else ()

    def write(self, frame: Frame) -> None:
        """Encode one upright frame of the size that the source information says."""
        if self.others:
            self.others.copy_until(frame.pts * self.source.time_base)
        self.container.mux(self.encoder.encode(frame))

    def finish(self) -> None:
        """Flush the encoder and copy the rest of the other streams."""
        self.container.mux(self.encoder.encode(None))
        if self.others:
            self.others.copy_until(None)

    def close(self) -> None:
        """Close the files; what was written up to here can be played."""
        if self.others:
            self.others.close()
        self.container.close()


@contextmanager
def open_writer(path: Path, source: VideoInfo, options: EncodeOptions) -> Iterator[VideoWriter]:
    """A writer whose file takes the name ``path`` only if the block ends without an error.

    Raises OutputError for what cannot be written: suffix, codec, folder, disk.
    """
    _check_suffix(path)
    with replacing(path) as temporary, _opened(temporary, source, options, others=True) as writer:
        yield writer


@contextmanager
def open_segment(path: Path, source: VideoInfo, options: EncodeOptions) -> Iterator[VideoWriter]:
    """A writer of the picture alone, for a part of a long job; :func:`join_segments` puts them together.

    The suffix must be :func:`segment_suffix`'s. The file takes its name when the block ends.
    """
    with replacing(path) as temporary, _opened(temporary, source, options, others=False) as writer:
        yield writer


def segment_suffix(options: EncodeOptions) -> str:
    """Container for parts of a job: it must keep exact times and hold the codec."""
    return {"ffv1": ".nut", "prores": ".mov"}.get(options.codec, ".mp4")


def join_segments(
    path: Path,
    source: VideoInfo,
    options: EncodeOptions,
    segments: Sequence[Path],
    *,
    until: Fraction | None = None,
) -> None:
    """Mux the packets of closed segments, in order, with everything else of the source.

    The result has the streams, tags and other streams that :func:`open_writer` would have given it; no
    frame is coded again. ``until`` (seconds) ends the other streams there, for a part of the source.
    Raises OutputError.
    """
    _check_suffix(path)
    with replacing(path) as temporary, ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(temporary, "w", options=_muxer_options(path, source)))
            with av.open(segments[0]) as first:
                stream = container.add_stream_from_template(first.streams.video[0], opaque=True)
            _tag_stream(stream, path, source, options)
            others = _with_others(container, path, source, stream)
            stack.callback(others.close)
            for packet in joined_packets(segments):
                others.copy_until(packet.pts * packet.time_base)
                packet.stream = stream
                container.mux(packet)
            others.copy_until(until)
            stack.close()
        except av.FFmpegError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def joined_packets(segments: Sequence[Path]) -> Iterator[Any]:
    """Video packets of all segments; decoding times that go back at a seam are moved on by one unit."""
    last: int | None = None
    for segment in segments:
        with av.open(segment) as container:
            for packet in container.demux(container.streams.video[0]):
                if not packet.size:
                    continue
                if last is not None and packet.dts is not None and packet.dts <= last:
                    packet.dts = last + 1
                last = packet.dts if packet.dts is not None else last
                yield packet


@contextmanager
def _opened(path: Path, source: VideoInfo, options: EncodeOptions, *, others: bool) -> Iterator[VideoWriter]:
    with ExitStack() as stack:
        try:
            writer = VideoWriter(path, source, options, others=others)
            stack.callback(writer.close)
            yield writer
            writer.finish()
            stack.close()
        except av.FFmpegError as error:
            raise OutputError(f"cannot write {path.name}: {error.strerror or error}") from error


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in CONTAINERS:
        raise OutputError(
            f"cannot write {path}: unknown video type {path.suffix!r}; use one of {', '.join(CONTAINERS)}"
        )


def _with_others(container: Any, path: Path, source: VideoInfo, stream: Any) -> OtherStreams:
    others = OtherStreams(source, container, MUXERS[path.suffix.lower()])
    others.describe_picture(stream)
    return others


def _add_stream(container: Any, path: Path, source: VideoInfo, options: EncodeOptions) -> Any:
    """The video stream with its encoder, not yet open."""
    try:
        stream: Any = container.add_stream(options.encoder, rate=source.rate)
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(
            f"cannot write {options.codec} video into {path.name} ({error}); use --codec h264, or a .mkv file"
        ) from error
    context = stream.codec_context
    width, height = source.width, source.height
    if source.quarter_turns % 2:
        width, height = height, width
    stream.width, stream.height = width, height
    # 4:2:0 halves the chroma planes; an odd size can only be kept whole in 4:4:4.
    stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    context.time_base = source.time_base
    context.flags |= FRAME_DURATION_FLAG
    context.options = options.encoder_options
    if options.codec == "vp9":
        context.bit_rate = 0  # else crf is only an upper bound to a default rate
    _tag_stream(stream, path, source, options)
    return stream


def _tag_stream(stream: Any, path: Path, source: VideoInfo, options: EncodeOptions) -> None:
    """What stream and container say of the picture, whether it is encoded here or was before."""
    context = stream.codec_context
    stream.time_base = source.time_base
    context.framerate = source.rate
    context.sample_aspect_ratio = source.sample_aspect_ratio
    source.colour.apply(context)
    if options.codec == "hevc" and path.suffix.lower() != ".mkv":
        context.codec_tag = "hvc1"  # the form that Apple's players take
    if source.display_matrix is not None:
        stream.set_display_matrix(source.display_matrix)


def default_suffix(info: VideoInfo) -> str:
    """The container an output goes to when none is named: the input's, where H.264 belongs in it."""
    suffix = info.path.suffix.lower()
    if suffix in CONTAINERS:
        return suffix
    return ".mp4" if set(info.audio) <= MP4_AUDIO else ".mkv"


def _muxer_options(path: Path, source: VideoInfo, *, index_in_front: bool = True) -> dict[str, str]:
    """mp4 family: index in front, colour box, and start times exact instead of in milliseconds."""
    if path.suffix.lower() in (".mkv", ".nut"):
        return {}
    clock = source.clock if source.clock < 2**31 else source.time_base.denominator
    flags = "+write_colr+faststart" if index_in_front else "+write_colr"
    return {"movflags": flags, "movie_timescale": str(clock)}
