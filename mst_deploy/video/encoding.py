"""Encoding of upright RGB frames: rotated back to the source's orientation, converted, encoded to packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # knows the processor

from mst_deploy.errors import OutputError
from mst_deploy.video.codecs import CODECS, EncoderSettings
from mst_deploy.video.color import LIMITED, Mastering, usual_matrix
from mst_deploy.video.containers import SAYS_ORIENTATION
from mst_deploy.video.filters import Palettes
from mst_deploy.video.info import Frame, VideoInfo, turned_in_pixels
from mst_deploy.video.orientation import coded
from mst_deploy.video.rgb import SCALING

FRAME_DURATION_FLAG = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: packets carry their frames' durations


class PictureEncoder:
    """Encodes upright frames to packets of one stream."""

    def __init__(self, stream: Any, source: VideoInfo, *, alpha: bool = False) -> None:
        self.stream, self.source, self.alpha = stream, source, alpha
        self.reformatter = VideoReformatter()
        self.count = 0
        self.durations: dict[int, int] = {}
        """Durations of frames in the encoder, by time: VP9 and AV1 encoders lose them, and the last frame
        needs its own."""
        self.first: tuple[int, int] | None = None
        """Presentation and decoding time of the first packet, in units of its time base."""
        self.end = 0
        """End of the last frame, as far as it is known."""
        self.palettes = Palettes() if stream.pix_fmt == "pal8" else None

    def encode(self, frame: Frame | None) -> list[Any]:
        """Return the packets that are ready after one more upright frame; None flushes the encoder."""
        self.count += frame is not None
        if frame is not None and frame.duration:
            self.durations[frame.pts] = frame.duration
        packets = [packet for made in self._coded(frame) for packet in self.stream.encode(made)]
        packets += list(self.stream.encode(None)) if frame is None else []
        for packet in packets:
            if frame is None and self.count <= 2:
                packet.dts = packet.pts  # of so few frames x265 gives no decoding time, but random numbers
            duration = self.durations.pop(packet.pts, 0)
            if duration and packet.time_base == self.source.time_base:
                packet.duration = duration
                self.end = max(self.end, packet.pts + duration)
        if packets:
            self.first = self.first or (packets[0].pts, packets[0].dts)
        if frame is None and packets and self.first is not None and self.end:
            end_last(packets[-1], *self.first, self.end)
        return packets

    def _coded(self, frame: Frame | None) -> Iterator[av.VideoFrame]:
        picture = None if frame is None else self._picture(frame)
        if self.palettes is not None:
            yield from self.palettes.push(picture)
        elif picture is not None:
            yield self._converted(picture)

    def _picture(self, frame: Frame) -> av.VideoFrame:
        image, form = frame.image, "rgb24"
        if self.alpha:
            opaque = np.full(image.shape[:2], 255, np.uint8)
            image, form = np.dstack([image, opaque if frame.alpha is None else frame.alpha]), "rgba"
        image = coded(image, self.source.quarter_turns, self.source.mirrored)
        picture = av.VideoFrame.from_ndarray(image, format=form)
        picture.pts, picture.time_base = frame.pts, self.source.time_base
        picture.duration = frame.duration
        return picture

    def _converted(self, picture: av.VideoFrame) -> av.VideoFrame:
        color = self.source.color
        if self.stream.codec_context.format.is_rgb:
            made: Any = self.reformatter.reformat(picture, format=self.stream.pix_fmt)
        else:
            made = self.reformatter.reformat(
                picture,
                format=self.stream.pix_fmt,
                src_colorspace=color.scaler_matrix,
                dst_colorspace=color.scaler_matrix,
                src_color_range=ColorRange.JPEG,
                dst_color_range=color.range,
                interpolation=SCALING,
            )
            color.apply(made)
        made.pts, made.time_base = picture.pts, picture.time_base
        made.duration = picture.duration
        return made  # type: ignore[no-any-return]


def end_last(packet: Any, first_pts: int, first_dts: int, end: int) -> None:
    """Give the last packet of a file the duration that ends the picture at ``end``.

    Files count from decoding time to decoding time, and the packet that is decoded last need not be the one
    that is shown last. All in units of the packet's time base.
    """
    duration = end - first_pts - (packet.dts - first_dts)
    if duration > 0:
        packet.duration = duration


def storage_info(source: VideoInfo, coding: EncoderSettings, muxer: str) -> VideoInfo:
    """Return the source's info as codec and container can hold it: range, matrix and orientation."""
    if muxer not in SAYS_ORIENTATION:
        source = turned_in_pixels(source)
    codec, color = CODECS[coding.codec], source.color
    if not codec.full_range:
        color = replace(color, range=LIMITED)
    if not codec.tags:
        color = replace(color, matrix=usual_matrix(coded_size(source)[1]))
    return replace(source, color=color)


def add_stream(container: Any, source: VideoInfo, coding: EncoderSettings) -> Any:
    """Add the video stream with its encoder, not yet open. Raises OutputError."""
    try:
        stream: Any = container.add_stream(coding.encoder, rate=source.rate)
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(
            f"cannot write {coding.codec} video into a {container.format.name} file ({error}); "
            f"use [option:codec] {_other_codec(container)}, or a .mkv file"
        ) from error
    context = stream.codec_context
    stream.width, stream.height = coded_size(source)
    stream.pix_fmt = coding.pix_fmt
    context.time_base = source.time_base
    context.flags |= FRAME_DURATION_FLAG
    hdr = _hdr_options(coding, source.mastering)
    context.options = {**coding.options, **_repeatable(coding), **_quiet(coding), **hdr}
    if coding.bitrate is not None:
        context.bit_rate = coding.bitrate
    elif coding.hardware or coding.codec == "vp9":
        context.bit_rate = 0  # else the quality is only an upper bound to a default rate
    return stream


def tag_stream(stream: Any, source: VideoInfo, codec: str, muxer: str) -> None:
    """Set the tags of stream and container, whether the picture is encoded here or was before."""
    context = stream.codec_context
    stream.time_base = source.time_base
    context.framerate = source.rate
    context.sample_aspect_ratio = source.sample_aspect_ratio
    if codec not in ("gif", "webp", "png"):  # those are RGB
        source.color.apply(context)
    if codec == "hevc" and muxer in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # the form that Apple's players take
    if source.display_matrix is not None:
        stream.set_display_matrix(source.display_matrix)


def say_alpha(stream: Any, coding: EncoderSettings) -> None:
    """Tag VP9 in Matroska as having a second stream with the alpha channel."""
    if coding.alpha and coding.codec == "vp9":
        stream.metadata["alpha_mode"] = "1"


def start(container: Any, stream: Any, coding: EncoderSettings) -> None:
    """Open the encoder and write the header: incompatible settings fail here. Raises OutputError."""
    context = stream.codec_context
    try:
        context.open()
    except av.FFmpegError as error:
        raise OutputError(
            f"the encoder {coding.encoder} refuses {context.width}x{context.height} frames in "
            f"{coding.pix_fmt} ({error.strerror}); use another [option:codec], or another [option:size]"
        ) from error
    try:
        container.start_encoding()
    except av.FFmpegError as error:
        raise OutputError(
            f"cannot write {coding.codec} video into a {container.format.name} file ({error.strerror}); "
            f"use [option:codec] {_other_codec(container)}, or a .mkv file"
        ) from error


def _other_codec(container: Any) -> str:
    """Return a codec that the container can hold."""
    return "vp9" if container.format.name == "webm" else "h264"


def coded_size(source: VideoInfo) -> tuple[int, int]:
    """Return (width, height) of the picture as it is stored, before players rotate it."""
    turned = source.quarter_turns % 2
    return (source.height, source.width) if turned else (source.width, source.height)


def holds_mastering(coding: EncoderSettings) -> bool:
    """Return whether PyAV can pass the metadata of the mastering display to the encoder."""
    return coding.encoder in ("libx265", "libsvtav1")


def _repeatable(coding: EncoderSettings) -> dict[str, str]:
    """Keep x264 from its AVX-512 code, which gives different pixels in every run.

    Seen with x264 165 at sizes whose width is no multiple of 128, only with macroblock-tree rate control.
    Resumed jobs rely on the same frames giving the same packets; AVX2 does.
    """
    wide = coding.encoder == "libx264" and getattr(_multiarray_umath, "__cpu_features__", {}).get("AVX512F")
    return {"x264-params": "asm=AVX2"} if wide else {}


def _quiet(coding: EncoderSettings) -> dict[str, str]:
    """Return options that keep x265 from printing statistics."""
    return {"x265-params": "log-level=error"} if coding.encoder == "libx265" else {}


def _hdr_options(coding: EncoderSettings, mastering: Mastering | None) -> dict[str, str]:
    """Return mastering display and light levels as options of x265 and SVT-AV1."""
    if mastering is None:
        return {}
    if coding.encoder == "libx265":
        words = ["log-level=error", "hdr10=1", *_x265(mastering)]
        return {"x265-params": ":".join(words)}
    if coding.encoder == "libsvtav1":
        return {"svtav1-params": ":".join(_svt(mastering))}
    return {}


def _x265(mastering: Mastering) -> Iterator[str]:
    """Format chromaticities in units of 0.00002 and luminance in 0.0001 cd/m2 (H.265 D.3.28)."""
    if mastering.primaries and mastering.luminance:
        red, green, blue, white = _points(mastering, Fraction(50000))
        least, most = (round(value * 10000) for value in mastering.luminance)
        yield f"master-display=G{green}B{blue}R{red}WP{white}L({most},{least})"
    if mastering.light:
        yield f"max-cll={mastering.light[0]},{mastering.light[1]}"


def _svt(mastering: Mastering) -> Iterator[str]:
    if mastering.primaries and mastering.luminance:
        red, green, blue, white = _points(mastering, None)
        least, most = (float(value) for value in mastering.luminance)
        yield f"mastering-display=G{green}B{blue}R{red}WP{white}L({most:.4f},{least:.4f})"
    if mastering.light:
        yield f"content-light={mastering.light[0]},{mastering.light[1]}"


def _points(mastering: Mastering, units: Fraction | None) -> Iterator[str]:
    values = [f"{float(v):.5f}" if units is None else str(round(v * units)) for v in mastering.primaries]
    return (f"({x},{y})" for x, y in zip(values[0::2], values[1::2], strict=True))
