"""Reading video files through PyAV: upright RGB frames with exact times.

Times are integers of the stream's time base, never floats. Frames are turned as the display matrix
says. Matrix and range of the YUV planes are read and converted explicitly.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from mst_deploy.colour import ColourTags, read_tags
from mst_deploy.errors import InputError

Image = NDArray[np.uint8]
"""(H, W, 3) RGB, upright."""

# Exact rounding and full chroma interpolation: costs a little, keeps colour bars within 1/255.
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class Frame:
    """One picture and when it is shown."""

    image: Image = field(repr=False)
    pts: int
    """Presentation time in units of the stream's time base."""
    duration: int
    """How long it is shown, same units; 0 if unknown."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container says about the first video stream."""

    path: Path
    width: int
    """Of the upright picture, in pixels."""
    height: int
    time_base: Fraction
    """Seconds per unit of a frame's pts."""
    rate: Fraction
    """Average frames per second."""
    frames: int
    """Number of frames as far as the container knows, else an estimate; for progress only."""
    quarter_turns: int
    """Turns of 90 degrees, counter-clockwise, from the coded to the upright picture."""
    display_matrix: tuple[int, ...] | None
    sample_aspect_ratio: Fraction
    """Width by height of one pixel of the coded picture."""
    colour: ColourTags
    audio: tuple[str, ...]
    """Codec of every audio stream."""
    not_kept: tuple[str, ...]
    """What of this file an output will not have, in words."""
    clock: int
    """Least common denominator of the time bases of video and audio."""
    stream_index: int = 0
    """Number of the video stream in its file."""


class VideoReader:
    """Frames of the first video stream in display order. A context manager; read it once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.container = open_input(path)
        try:
            moving = [video for video in self.container.streams.video if not _is_cover(video)]
            if not moving:
                raise InputError(f"{path} has no video stream; give a video file")
            self.stream = moving[0]
            self.stream.thread_type = "AUTO"
            self._refuse_truncated()
            self.decoded = self._decode()
            self.first = next(self.decoded, None)
            if self.first is None:
                raise InputError(f"{path} has a video stream without a single readable frame")
            self.info = self._describe(self.first)
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[Frame]:
        last: int | None = None
        end = 0
        for picture in self._pictures():
            pts = picture.pts
            if pts is None or (last is not None and pts <= last):
                pts = 0 if last is None else last + 1  # a broken stamp: keep the frame, in order
            last, end = pts, pts + (picture.duration or 0)
            yield Frame(self._upright(picture), pts, picture.duration or 0)
        self._refuse_early_end(end)

    def _pictures(self) -> Iterator[av.VideoFrame]:
        if self.first is not None:
            first, self.first = self.first, None
            yield first
        yield from self.decoded

    def _decode(self) -> Iterator[av.VideoFrame]:
        count = 0
        try:
            for picture in self.container.decode(self.stream):
                count += 1
                yield picture
        except av.FFmpegError as error:
            raise InputError(
                f"{self.path} is damaged after frame {count} ({error.strerror}); "
                "repair it or cut it before that point"
            ) from error

    def _upright(self, picture: av.VideoFrame) -> Image:
        colour = self.info.colour
        rgb = picture.reformat(
            format="rgb24",
            src_colorspace=colour.scaler_matrix,
            dst_colorspace=colour.scaler_matrix,
            src_color_range=colour.range,
            dst_color_range=av.video.reformatter.ColorRange.JPEG,
            interpolation=SCALING,
        )
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), self.info.quarter_turns))

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        stream = self.stream
        matrix = _display_matrix(first)
        turns = round(first.rotation / 90) % 4
        width, height = first.width, first.height
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        assert stream.time_base is not None  # set by every demuxer
        seconds = _duration(self.container, stream)
        return VideoInfo(
            path=self.path,
            width=height if turns % 2 else width,
            height=width if turns % 2 else height,
            time_base=stream.time_base,
            rate=rate,
            frames=stream.frames or (round(seconds * rate) if seconds else 0),
            quarter_turns=turns,
            display_matrix=matrix,
            sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
            colour=read_tags(first, self.path),
            audio=tuple(audio.codec_context.name for audio in self.container.streams.audio),
            not_kept=self._not_kept(first),
            clock=math.lcm(
                stream.time_base.denominator,
                *(audio.time_base.denominator for audio in self.container.streams.audio),
            ),
            stream_index=stream.index,
        )

    def _not_kept(self, first: av.VideoFrame) -> tuple[str, ...]:
        losses = []
        depth = max(component.bits for component in first.format.components)
        if depth > 8:
            losses.append(f"{depth}-bit colour (8 bits are written)")
        if first.interlaced_frame:
            losses.append("interlacing (fields are treated as whole frames)")
        return tuple(losses)

    def _refuse_truncated(self) -> None:
        """The index of an mp4 says where every frame and sound packet lies: is the file long enough?"""
        size = self.path.stat().st_size
        streams = (self.stream, *self.container.streams.audio)
        ends = (entry.pos + entry.size for stream in streams for entry in stream.index_entries)
        last = max(ends, default=0)
        if last > size:
            raise InputError(
                f"{self.path} is truncated: its index reaches to byte {last:,}, the file ends at "
                f"{size:,}; copy or download it again"
            )

    def _refuse_early_end(self, end: int) -> None:
        """Other containers: did the frames reach the stated duration, within half a second?"""
        expected = _duration(self.container, self.stream)
        if expected is None or (len(self.stream.index_entries) > 0 and self.stream.frames):
            return
        start = (self.container.start_time or 0) / Fraction(av.time_base)
        reached = end * self.info.time_base
        if reached < start + expected - Fraction(1, 2):
            raise InputError(
                f"{self.path} is truncated: it ends at {float(reached):.2f} s of "
                f"{float(start + expected):.2f} s; copy or download it again"
            )


def resized(info: VideoInfo, width: int, height: int) -> VideoInfo:
    """The same stream with upright frames of another size.

    Pixels stay as wide as they were unless the shape of the picture changes; then they are square.
    """
    same_shape = abs(width * info.height - height * info.width) < 2 * max(info.width, info.height)
    ratio = info.sample_aspect_ratio if same_shape else Fraction(1)
    return replace(info, width=width, height=height, sample_aspect_ratio=ratio)


def open_input(path: Path) -> Any:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a video file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or download it again")
    try:
        container = av.open(path)
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot read {path} as a video ({reason}): it is of another kind, or truncated; "
            "try to play it, or copy it again"
        ) from error
    kind = container.format.name
    if kind == "tty" or kind.startswith("image2") or kind.endswith("_pipe"):
        container.close()
        what = "text" if kind == "tty" else "a still picture (mst image takes those)"
        raise InputError(f"cannot read {path} as a video: it is {what}; give a video file")
    return container


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is a still cover picture, as music files have."""
    return bool(stream.disposition & Disposition.attached_pic)


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    data = picture.side_data.get(SideData.DISPLAYMATRIX)  # type: ignore[call-overload]
    return None if data is None else struct.unpack("=9i", bytes(data))


def _duration(container: Any, stream: Any) -> Fraction | None:
    """Seconds, of the stream if it knows, else of the container."""
    if stream.duration is not None:
        return Fraction(stream.duration * stream.time_base)
    if container.duration is not None:
        return Fraction(container.duration, av.time_base)
    return None
