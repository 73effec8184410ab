"""Writing video files through PyAV: stylised frames at the times of their source, sound untouched.

The writer turns upright frames back to how the source was coded and stores its display matrix, so
coded size and rotation survive. The YUV planes get the source's matrix and range, tagged in stream and
container. Audio packets are copied byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.files import replacing
from mst_deploy.video import SCALING, Frame, VideoInfo, open_input


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
CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv")
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


class VideoWriter:
    """Writes upright frames and the audio of the source. Use through :func:`open_writer`."""

    def __init__(self, path: Path, source: VideoInfo, options: EncodeOptions) -> None:
        self.source = source
        self.path = path
        self.container = av.open(path, "w", options=_muxer_options(path, source))
        try:
            self.stream = self._add_stream(options)
            self.audio = AudioCopy(source.path, self.container)
        except BaseException:
            self.container.close()
            raise

    def write(self, frame: Frame) -> None:
        """Encode one upright frame of the size that the source information says."""
        image = np.rot90(frame.image, -self.source.quarter_turns)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        colour = self.source.colour
        coded = picture.reformat(
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
        self.audio.copy_until(frame.pts * self.source.time_base)
        self.container.mux(self.stream.encode(coded))

    def finish(self) -> None:
        """Flush the encoder and copy the rest of the audio."""
        self.container.mux(self.stream.encode(None))
        self.audio.copy_until(None)

    def close(self) -> None:
        self.audio.close()
        self.container.close()

    def _add_stream(self, options: EncodeOptions) -> Any:
        source = self.source
        try:
            stream: Any = self.container.add_stream(options.encoder, rate=source.rate)
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(
                f"cannot write {options.codec} video into {self.path.name} ({error}); "
                "use --codec h264, or a .mkv file"
            ) from error
        context = stream.codec_context
        width, height = source.width, source.height
        if source.quarter_turns % 2:
            width, height = height, width
        stream.width, stream.height = width, height
        # 4:2:0 halves the chroma planes; an odd size can only be kept whole in 4:4:4.
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        stream.time_base = context.time_base = source.time_base
        context.sample_aspect_ratio = source.sample_aspect_ratio
        context.flags |= FRAME_DURATION_FLAG
        context.options = options.encoder_options
        if options.codec == "vp9":
            context.bit_rate = 0  # else crf is only an upper bound to a default rate
        if options.codec == "hevc" and self.path.suffix.lower() != ".mkv":
            context.codec_tag = "hvc1"  # the form that Apple's players take
        source.colour.apply(context)
        if source.display_matrix is not None:
            stream.set_display_matrix(source.display_matrix)
        return stream


@contextmanager
def open_writer(path: Path, source: VideoInfo, options: EncodeOptions) -> Iterator[VideoWriter]:
    """A writer whose file takes the name ``path`` only if the block ends without an error.

    Raises OutputError for what cannot be written: suffix, codec, folder, disk.
    """
    if path.suffix.lower() not in CONTAINERS:
        raise OutputError(
            f"cannot write {path}: unknown video type {path.suffix!r}; use one of {', '.join(CONTAINERS)}"
        )
    with replacing(path) as temporary, ExitStack() as stack:
        try:
            writer = VideoWriter(temporary, source, options)
            stack.callback(writer.close)
            yield writer
            writer.finish()
            stack.close()
        except av.FFmpegError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


class AudioCopy:
    """Copies all audio packets of a file into an output container, in step with the video."""

    def __init__(self, source: Path, output: Any) -> None:
        self.input = open_input(source)
        self.output = output
        self.streams: dict[int, Any] = {}
        for stream in self.input.streams.audio:
            try:
                self.streams[stream.index] = output.add_stream_from_template(stream)
            except (av.FFmpegError, ValueError) as error:
                raise OutputError(
                    f"this container cannot hold {stream.codec_context.name} audio; "
                    "write to a .mkv file instead"
                ) from error
        self.packets = self._packets() if self.streams else iter(())
        self.held: Any = None

    def copy_until(self, time: Fraction | None) -> None:
        """Mux every packet that starts before ``time`` (seconds); None means all that are left."""
        while (packet := self.held or next(self.packets, None)) is not None:
            self.held = packet
            start = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
            if time is not None and start >= time:
                return
            self.held = None
            packet.stream = self.streams[packet.stream.index]
            self.output.mux(packet)

    def close(self) -> None:
        self.input.close()

    def _packets(self) -> Iterator[Any]:
        for packet in self.input.demux(*self.input.streams.audio):
            if packet.size and (packet.pts is not None or packet.dts is not None):
                yield packet


def default_suffix(info: VideoInfo) -> str:
    """The container an output goes to when none is named: the input's, where H.264 belongs in it."""
    suffix = info.path.suffix.lower()
    if suffix in CONTAINERS:
        return suffix
    return ".mp4" if set(info.audio) <= MP4_AUDIO else ".mkv"


def _muxer_options(path: Path, source: VideoInfo) -> dict[str, str]:
    """mp4 family: index in front, colour box, and start times exact instead of in milliseconds."""
    if path.suffix.lower() == ".mkv":
        return {}
    clock = source.clock if source.clock < 2**31 else source.time_base.denominator
    return {"movflags": "+faststart+write_colr", "movie_timescale": str(clock)}
