"""Reading video files through PyAV: upright RGB frames with exact times.

Times are integers of the stream's time base, never floats. Frames are rotated according to the display
matrix. Matrix and range of the YUV planes are read and converted explicitly. Damage does not stop the reader;
it is counted and reported.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, Self

import av
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mst_deploy.errors import InputError
from mst_deploy.video.alpha import alpha_decoder, has_alpha, is_transparent
from mst_deploy.video.color import SDR_TAGS, Mastering, read_tags
from mst_deploy.video.damage import PICTURE_EACH, DecodeReport, PacketTracker, TimestampMonitor
from mst_deploy.video.demuxing import (
    PATIENCE,
    PIPE,
    Pipe,
    breaks_off,
    end_of,
    is_pipe,
    open_input,
    packets_of,
    picture_stream,
    pictures_of,
    refuse_truncated,
    seconds_of,
    tagged_end,
)
from mst_deploy.video.filters import Deinterlacer, ToneMapper
from mst_deploy.video.frame_times import DecodeOrderTimes, rising
from mst_deploy.video.hardware import decoding
from mst_deploy.video.info import Frame, Image, Plane, VideoInfo, resized
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.orientation import matrix_of, orientation, upright
from mst_deploy.video.side_data import (
    has_captions,
    is_dolby_vision_5,
    marks_not_kept,
    side_data,
    stereo_mode,
)
from mst_deploy.video.time_ranges import ClockSpan, TimeRange

__all__ = ["DecodeReport", "Frame", "Image", "ReadOptions", "VideoInfo", "VideoReader", "resized"]

# Exact rounding and full chroma interpolation: costs a little, keeps color bars within 1/255.
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class VideoReader:
    """Frames of the main video stream, in display order. A context manager; read it once.

    ``info`` is available at once; ``damage`` is updated while frames are read. Raises InputError.
    """

    def __init__(self, path: Path, options: ReadOptions | None = None) -> None:
        self.path, self.options = path, options or ReadOptions()
        self.damage = DecodeReport()
        self.lock, self.closed = Lock(), False
        self.reformatter = VideoReformatter()
        self.tone: ToneMapper | None = None
        hwaccel = decoding(self.options.hwaccel)
        self.container = open_input(path, hwaccel=hwaccel, rate=self.options.rate)
        try:
            self.stream = picture_stream(self.container, path)
            self.stream.thread_type = "SLICE" if hwaccel else "AUTO"
            if self.options.span.end is None:
                refuse_truncated(self.container, self.stream, path)
            step = 1 / (self._rate_of_source() * Fraction(self.stream.time_base))
            self.timestamps = TimestampMonitor(
                step, None if self.options.span.start else self.stream.start_time
            )
            self.sent = PacketTracker()
            self.captions = False
            self.alpha_decoder = alpha_decoder(self.stream)
            reordered = self.container.format.name == "avi" and self.stream.codec_context.has_b_frames
            self.ordered = DecodeOrderTimes() if reordered else None
            self.pipe = Pipe(self.container) if is_pipe(path) else None
            raw = self._decode()
            begin = self.stream.start_time
            if self.ordered is not None and (head := next(raw, None)) is not None:
                begin, raw = head.pts, chain([head], raw)
                self.timestamps.start = None
            self.cut = _cut(self.options.span, self.container, self.stream, begin)
            if self.cut is not None and self.cut.skips and self.pipe is None and self.ordered is None:
                self._seek(self.cut)
            self.decoded = self._whole_frames(raw)
            self.first = next(self.decoded, None)
            if self.first is None:
                raise InputError(f"{path} has a video stream without a single readable frame{self._where()}")
            self.info = self._describe(self.first)
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; whoever still reads frames gets an InputError. Waits for a frame under way.

        Decoding from a file that is closed at the same time in another thread would end the process.
        """
        with self.lock:
            self.closed = True
            self.container.close()

    def __iter__(self) -> Iterator[Frame]:
        frames = self._frames()
        while True:
            with self.lock:
                if self.closed:
                    raise InputError(
                        f"{self.path} was closed while its frames were still being read; read them before "
                        "it is closed"
                    )
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _frames(self) -> Iterator[Frame]:
        shift = self.cut.shift(self.info.time_base) if self.cut else 0
        end: int | None = None
        try:
            for picture in self._pictures():
                assert picture.pts is not None  # set by rising
                end = picture.pts + (picture.duration or 0)
                duration = self._duration(picture)
                yield Frame(self._upright(picture), picture.pts - shift, duration, alpha=self._alpha(picture))
        except av.FFmpegError as error:
            raise InputError(f"{self.path} cannot be decoded any further ({error.strerror})") from error
        self._note_early_end(end)

    def restart_at(self, pts: int) -> bool:
        """Go on reading at a key frame at or before the frame of time ``pts``; return False where that is not
        possible and nothing was done.

        Frames after a key frame may depend on ones before it, and times may be found by counting: compare the
        frames with those that were read from the beginning, and leave out the ones before ``pts``.
        """
        if self.pipe is not None or self.ordered is not None or self.alpha_decoder is not None:
            return False
        shift = self.cut.shift(self.info.time_base) if self.cut else 0
        time = (pts + shift) * self.info.time_base
        begin = (self.stream.start_time or 0) * Fraction(self.stream.time_base)
        with self.lock:
            self._seek(ClockSpan(time, None, origin=begin))
            self.first, self.decoded = None, self._whole_frames(self._decode())
        return True

    def problems(self) -> tuple[str, ...]:
        """Describe the damage found so far, for people."""
        return self.damage.describe()

    def _pictures(self) -> Iterator[av.VideoFrame]:
        if self.first is not None:
            first, self.first = self.first, None
            yield first
        yield from self.decoded

    def _whole_frames(self, raw: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yield the selected frames with usable times, deinterlaced."""
        sample_every = self.options.span.sample_every
        kept: int | None = None
        for picture in rising(_deinterlaced(raw), self.damage):
            assert picture.pts is not None
            self.timestamps.observe(picture.pts)
            assert picture.time_base is not None
            time = picture.pts * picture.time_base
            if self.cut is not None and not self.cut.holds(time):
                if self.cut.end is not None and time >= self.cut.end:
                    return
                continue
            if sample_every is not None:
                number = int((time - (self.cut.start if self.cut else 0)) // sample_every)
                if number == kept:
                    continue
                kept = number
            yield picture

    def _decode(self) -> Iterator[av.VideoFrame]:
        count = 0
        try:
            for packet in self._packets():
                time = packet.pts if self.ordered is None else packet.dts
                if packet.is_discard:
                    self.sent.discarded(time)
                elif packet.size:
                    self.sent.sent(time)
                try:
                    frames = self._decoded(packet)
                except av.FFmpegError:
                    self.damage.packets += 1
                    continue
                for frame in frames:
                    count += 1
                    if self.ordered is not None:
                        frame.pts = self.ordered.time(frame)
                    self.damage.shown += frame.is_corrupt
                    self.captions = self.captions or has_captions(frame)
                    self.sent.shown(frame.pts)
                    self.sent.known &= not frame.interlaced_frame  # its fields may have come one by one
                    yield frame
        except av.FFmpegError as error:
            raise InputError(self._broken_off(count, error)) from error
        if self.stream.codec_context.name in PICTURE_EACH and not self.interlaced:
            self.damage.packets = max(self.damage.packets, self.sent.missing())

    def _decoded(self, packet: Any) -> list[av.VideoFrame]:
        if self.alpha_decoder is None:
            return packet.decode()  # type: ignore[no-any-return]
        return self.alpha_decoder.decode(packet if packet.size else None)  # type: ignore[no-any-return]

    def _broken_off(self, count: int, error: av.FFmpegError) -> str:
        """Return the reason why there are no more than ``count`` frames."""
        if self.pipe is not None and count == 0:
            return (
                f"{self._name} cannot be read as a stream ({error.strerror}): the index of an mp4 or mov "
                "is often at its end; give the file itself, or pipe Matroska"
            )
        return (
            f"{self.path} is damaged after frame {count} ({error.strerror}); "
            "repair it, or cut it before that point with [option:end]"
        )

    @property
    def _name(self) -> str:
        return "standard input" if self.path == PIPE else str(self.path)

    def _packets(self) -> Iterator[Any]:
        """Yield packets of the picture; those of other streams of a pipe are kept for the writer."""
        if self.pipe is None:
            yield from packets_of(self.container, self.stream)
            return
        for packet in packets_of(self.container):
            if packet.stream.index == self.stream.index:  # the last, empty ones have no stream_index
                yield packet
            elif packet.size:
                self.pipe.packets.append(packet)

    def _seek(self, cut: ClockSpan) -> None:
        """Seek to a key frame at or before the start; where none is found, read up to there instead.

        Transport streams have no index: FFmpeg seeks to any packet there.
        """
        back = Fraction(0)
        while cut.start - back > cut.origin:
            try:
                target = int((cut.start - back) / self.stream.time_base)
                self.container.seek(target, stream=self.stream)
                key = next((p for p in packets_of(self.container, self.stream) if p.is_keyframe), None)
                if key is not None and key.pts is not None and key.pts * key.time_base <= cut.start:
                    self.container.seek(target, stream=self.stream)
                    return
            except av.FFmpegError:
                pass
            back = 2 * back or Fraction(1)
        with suppress(av.FFmpegError):
            self.container.seek(0, unsupported_byte_offset=True)
            return
        with suppress(av.FFmpegError):
            self.container.seek(int(cut.origin / self.stream.time_base), stream=self.stream)

    def _upright(self, picture: av.VideoFrame) -> Image:
        rgb = self._sized(self.tone(picture) if self.tone else self._as_rgb(picture))
        image: Any = rgb.to_ndarray()
        return upright(image, self.info.quarter_turns, self.info.mirrored)

    def _alpha(self, picture: av.VideoFrame) -> Plane | None:
        if not self.info.alpha or not has_alpha(picture):
            return None
        width, height = self.coded_size
        values: Any = picture.reformat(width=width, height=height, format="rgba").to_ndarray()[:, :, 3]
        return upright(values, self.info.quarter_turns, self.info.mirrored)

    def _as_rgb(self, picture: av.VideoFrame) -> av.VideoFrame:
        color = self.source_color
        return self.reformatter.reformat(
            picture,
            format="rgb24",
            src_colorspace=color.scaler_matrix,
            dst_colorspace=color.scaler_matrix,
            src_color_range=color.range,
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
        )

    def _sized(self, rgb: av.VideoFrame) -> av.VideoFrame:
        if (rgb.width, rgb.height) == self.coded_size:
            return rgb
        self.damage.resized += 1
        width, height = self.coded_size
        return rgb.reformat(width=width, height=height, interpolation=SCALING)

    def _duration(self, picture: av.VideoFrame) -> int:
        sample_every = self.options.span.sample_every
        shortest = 0 if sample_every is None else int(sample_every / self.info.time_base)
        return max(picture.duration or 0, shortest)

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        stream = self.stream
        if is_dolby_vision_5(side_data(first, SideData.DOVI_METADATA)):
            raise InputError(
                f"{self.path} is Dolby Vision of profile 5, whose colors need Dolby's own mapping; convert "
                "it to HDR10 or SDR first (ffmpeg with libplacebo does)"
            )
        self.coded_size = first.width, first.height
        self.source_color = read_tags(first, self.path)
        mapped = self.options.sdr and self.source_color.hdr is not None
        if mapped:
            self.tone = ToneMapper(self.source_color.transfer, self.source_color.primaries)
        depth = _depth(first)
        matrix = _display_matrix(first)
        turns, mirrored = orientation(matrix) if matrix else (0, False)
        width, height = first.width, first.height
        assert first.time_base is not None
        bases = (first.time_base, *(audio.time_base for audio in self.container.streams.audio))
        return VideoInfo(
            path=self.path,
            width=height if turns % 2 else width,
            height=width if turns % 2 else height,
            time_base=first.time_base,
            rate=self._rate(),
            frames=self._count(),
            quarter_turns=turns,
            mirrored=mirrored,
            display_matrix=matrix,
            sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
            color=SDR_TAGS if mapped else self.source_color,
            audio=tuple(
                audio.codec_context.name if audio.codec_context else "unknown"
                for audio in self.container.streams.audio
            ),
            not_kept=self._not_kept(first, depth, mapped=mapped),
            clock=math.lcm(*(base.denominator for base in bases)),
            stream_index=stream.index,
            alpha=is_transparent(first),
            stereo_mode=stereo_mode(first),
            depth=8 if mapped else depth,
            mastering=None if mapped else _mastering(first),
            tone_mapped=mapped,
            cut=self.cut,
            decoder=(self.alpha_decoder or stream.codec_context).name
            + (" (cuda)" if stream.codec_context.is_hwaccel else ""),
            pipe=self.pipe,
        )

    def _rate_of_source(self) -> Fraction:
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

    def _rate(self) -> Fraction:
        rate = self._rate_of_source()
        sample_every = self.options.span.sample_every
        return rate if sample_every is None else min(rate, 1 / sample_every)

    def _count(self) -> int:
        seconds = seconds_of(self.container, self.stream)
        if self.options.span == TimeRange() and self.stream.frames:
            return pictures_of(self.container, self.stream)
        if seconds is None:
            return 0
        if self.options.span.end is not None:
            seconds = min(seconds, self.options.span.end)
        return max(0, round((seconds - (self.options.span.start or 0)) * self._rate()))

    def _not_kept(self, first: av.VideoFrame, depth: int, *, mapped: bool) -> tuple[str, ...]:
        hdr = self.source_color.hdr
        losses = []
        if mapped:
            losses.append(f"{hdr} (mapped to SDR, BT.709)")
        elif depth > 8:
            losses.append(f"{depth}-bit steps of color{f' in {hdr}' if hdr else ''} (styled in 8 bits)")
        if first.interlaced_frame or self.interlaced:
            losses.append("interlacing (fields are made into whole frames with bwdif)")
        losses += marks_not_kept(first)
        return tuple(losses)

    @property
    def not_kept(self) -> tuple[str, ...]:
        """Return descriptions of what an output will not keep, as far as the file has been read."""
        captions = ("closed captions in the picture's packets",) if self.captions else ()
        return (*self.info.not_kept, *captions)

    @property
    def interlaced(self) -> bool:
        """Return whether the stream is tagged as interlaced."""
        return int(self.stream.codec_context.field_order) in FIELDS

    def _where(self) -> str:
        span = self.options.span
        if not span.cuts:
            return ""
        until = "the end" if span.end is None else f"{float(span.end):g} s"
        return f" between {float(span.start or 0):g} s and {until}"

    def _note_early_end(self, end: int | None) -> None:
        """Record missing frames: compare number and end of the frames with the announced ones."""
        whole = self.options.span.end is None and self.options.span.start is None
        announced = pictures_of(self.container, self.stream) - self.sent.dropped if whole else 0
        self.damage.skipped = self.timestamps.missing(
            announced, self.damage.packets, hidden=self.sent.hidden > 0
        )
        if self.options.span != TimeRange() or self.pipe is not None:
            return
        self.damage.cut_off = breaks_off(self.container, self.path)
        expected = end_of(self.container, self.stream)
        if expected is None or end is None:
            return
        if len(self.stream.index_entries) > 0 and self.stream.frames:
            return  # exact indices are checked at the start, and edit lists make files shorter
        missing = expected - end * self.info.time_base
        patience = PATIENCE
        alone = len(self.container.streams) == 1 and "matroska" in self.container.format.name
        if alone or tagged_end(self.stream) is not None:  # exact, where all frames are of one length
            patience = Fraction(3 if self.timestamps.gaps else 1, 2) / self._rate_of_source()
        if missing > patience:
            self.damage.missing = missing


FIELDS = (2, 3, 4, 5)  # AV_FIELD_TT, BB, TB, BT


def _deinterlaced(pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield deinterlaced frames; the filter starts at the first frame that is tagged as interlaced."""
    filter_: Deinterlacer | None = None
    for picture in pictures:
        if filter_ is None and not picture.interlaced_frame:
            yield picture
            continue
        filter_ = filter_ or Deinterlacer()
        yield from filter_.push(picture)
    if filter_ is not None:
        yield from filter_.push(None)


def _cut(span: TimeRange, container: Any, stream: Any, first: int | None) -> ClockSpan | None:
    """Return the selected part on the clock of the file; None if all of it is used unchanged.

    The result begins at 0 where picture (at ``first``, in its time base) or sound begin: transport streams
    start at any time, and players of mp4 hide what comes before 0. Sound before 0 is skipped by its decoder.
    """
    begin = _begin(container, stream, first)
    if begin < 0 and (first or 0) >= 0:
        begin = Fraction(0)
    if not span.cuts and not begin:
        return None
    end = None if span.end is None else begin + span.end
    return ClockSpan(begin + (span.start or 0), end, origin=begin)


def _begin(container: Any, picture: Any, first: int | None) -> Fraction:
    """Return the time at which picture or sound begin, in seconds; the container's own value is rounded."""
    times = ((picture, first), *((audio, audio.start_time) for audio in container.streams.audio))
    starts = [time * stream.time_base for stream, time in times if time is not None]
    return min(starts, default=Fraction(container.start_time or 0, av.time_base))


def _depth(picture: av.VideoFrame) -> int:
    return max(8, *(component.bits for component in picture.format.components))


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    data = side_data(picture, SideData.DISPLAYMATRIX)
    if data is not None:
        return struct.unpack("=9i", data)
    return matrix_of(round(picture.rotation / 90) % 4) if picture.rotation else None


def _mastering(picture: av.VideoFrame) -> Mastering | None:
    return Mastering.unpack(
        side_data(picture, SideData.MASTERING_DISPLAY_METADATA),
        side_data(picture, SideData.CONTENT_LIGHT_LEVEL),
    )
