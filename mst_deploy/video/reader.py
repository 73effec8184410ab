"""Reading video files through PyAV: upright RGB frames with exact times.

Times are integers of the stream's time base, never floats. Frames are rotated according to the display
matrix. Matrix and range of the YUV planes are read and converted explicitly. Damage does not stop the reader;
it is counted and reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, Self

import av
from av.sidedata.sidedata import Type as SideData

from mst_deploy.errors import InputError
from mst_deploy.video.alpha import alpha_decoder, has_alpha, is_transparent
from mst_deploy.video.color import SDR_TAGS, read_tags
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
from mst_deploy.video.filters import deinterlaced
from mst_deploy.video.frame_times import DecodeOrderTimes, rising
from mst_deploy.video.hardware import decoding
from mst_deploy.video.info import Frame, Plane, VideoInfo
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.orientation import orientation
from mst_deploy.video.rgb import RgbConverter
from mst_deploy.video.seeking import seek, selected_span
from mst_deploy.video.side_data import (
    display_matrix,
    has_captions,
    is_dolby_vision_5,
    marks_not_kept,
    mastering,
    side_data,
    stereo_mode,
)
from mst_deploy.video.time_ranges import ClockSpan, TimeRange

FIELDS = (2, 3, 4, 5)  # AV_FIELD_TT, BB, TB, BT


class VideoReader:
    """Frames of the main video stream, in display order. A context manager; read it once.

    ``info`` is available at once; ``damage`` is updated while frames are read. Raises InputError.
    """

    def __init__(self, path: Path, options: ReadOptions | None = None) -> None:
        self.path, self.options = path, options or ReadOptions()
        self.damage = DecodeReport()
        self.lock, self.closed = Lock(), False
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
            self.cut = selected_span(self.options.span, self.container, self.stream, begin)
            if self.cut is not None and self.cut.skips and self.pipe is None and self.ordered is None:
                seek(self.container, self.stream, self.cut)
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
                yield Frame(
                    self.converter.image(picture), picture.pts - shift, duration, alpha=self._alpha(picture)
                )
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
            seek(self.container, self.stream, ClockSpan(time, None, origin=begin))
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
        for picture in rising(deinterlaced(raw), self.damage):
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

    def _alpha(self, picture: av.VideoFrame) -> Plane | None:
        return self.converter.alpha(picture) if self.info.alpha and has_alpha(picture) else None

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
        color = read_tags(first, self.path)
        mapped = self.options.sdr and color.hdr is not None
        depth = _depth(first)
        matrix = display_matrix(first)
        turns, mirrored = orientation(matrix) if matrix else (0, False)
        self.converter = RgbConverter(
            first, color, self.damage, quarter_turns=turns, mirrored=mirrored, to_sdr=mapped
        )
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
            color=SDR_TAGS if mapped else color,
            audio=tuple(
                audio.codec_context.name if audio.codec_context else "unknown"
                for audio in self.container.streams.audio
            ),
            not_kept=self._not_kept(first, depth, color.hdr, mapped=mapped),
            clock=math.lcm(*(base.denominator for base in bases)),
            stream_index=stream.index,
            alpha=is_transparent(first),
            stereo_mode=stereo_mode(first),
            depth=8 if mapped else depth,
            mastering=None if mapped else mastering(first),
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

    def _not_kept(
        self, first: av.VideoFrame, depth: int, hdr: str | None, *, mapped: bool
    ) -> tuple[str, ...]:
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


def _depth(picture: av.VideoFrame) -> int:
    return max(8, *(component.bits for component in picture.format.components))
