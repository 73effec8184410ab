"""What is known of a video: frames, the stream they come from, how to read it, and what was damaged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mst_deploy.video.color import ColorTags, Mastering
from mst_deploy.video.demuxing import Pipe
from mst_deploy.video.time_ranges import ClockSpan, TimeRange

Image = NDArray[np.uint8]
"""(H, W, 3) RGB, upright."""
Plane = NDArray[np.uint8]
"""(H, W)."""


@dataclass(frozen=True)
class Frame:
    """One picture and when it is shown."""

    image: Image = field(repr=False)
    pts: int
    """Presentation time in units of the stream's time base."""
    duration: int
    """How long it is shown, same units; 0 if unknown."""
    captured: float | None = None
    """When a live source took it: seconds of ``time.monotonic``. None for a file."""
    alpha: Plane | None = field(default=None, repr=False)
    """(H, W): 255 where the picture is opaque; None where all of it is."""


@dataclass(frozen=True)
class ReadOptions:
    """What of a file is read, and how."""

    span: TimeRange = field(default_factory=TimeRange)
    sdr: bool = False
    """Map high dynamic range to BT.709."""
    hwaccel: str = "off"
    """NVIDIA's decoder: off, on, or auto (where it can do the job)."""
    rate: Fraction | None = None
    """Pictures a second of a numbered sequence; None means 25."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container says about the video stream that is read, and how it is read."""

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
    """Turns of 90 degrees, counter-clockwise, from the coded (and mirrored) to the upright picture."""
    display_matrix: tuple[int, ...] | None
    sample_aspect_ratio: Fraction
    """Width by height of one pixel of the coded picture."""
    color: ColorTags
    """Of the output, which is that of the input unless it was mapped to SDR."""
    audio: tuple[str, ...]
    """Codec of every audio stream."""
    not_kept: tuple[str, ...]
    """What of this file an output will not have as it was, in words."""
    clock: int
    """Least common denominator of the time bases of video and audio."""
    stream_index: int = 0
    """Number of the video stream in its file."""
    mirrored: bool = False
    """Whether the coded picture is mirrored, left to right, before it is turned."""
    alpha: bool = False
    """Whether frames are transparent."""
    stereo_mode: str | None = None
    """How two views are packed into the picture, as Matroska names it."""
    depth: int = 8
    """Bits of a color value that an output needs."""
    mastering: Mastering | None = None
    tone_mapped: bool = False
    """Whether HDR is tone-mapped to SDR, BT.709."""
    cut: ClockSpan | None = None
    """Which part is read; its start is moved to 0."""
    decoder: str = ""
    """What decodes: FFmpeg's name, and ``cuda`` where the GPU does it."""
    pipe: Pipe | None = field(default=None, repr=False, compare=False)
    """Where the other streams come from if the file can be read only once."""


@dataclass(frozen=True)
class WriteReport:
    """What is to be said of a finished file."""

    not_kept: tuple[str, ...] = ()
    """What of the source it has no room for, in words."""
    damage: tuple[str, ...] = ()
    """What of the other streams could not be copied because it was damaged, in words."""
    notes: tuple[str, ...] = ()
    """What may surprise in the file, although nothing is lost, in words."""


def resized(info: VideoInfo, width: int, height: int) -> VideoInfo:
    """The same stream with upright frames of another size.

    Pixels stay as wide as they were unless the shape of the picture changes; then they are square.
    """
    same_shape = abs(width * info.height - height * info.width) < 2 * max(info.width, info.height)
    ratio = info.sample_aspect_ratio if same_shape else Fraction(1)
    return replace(info, width=width, height=height, sample_aspect_ratio=ratio)


def turned_in_pixels(info: VideoInfo) -> VideoInfo:
    """The same stream for a file that cannot say how it is turned: it is coded upright."""
    ratio = 1 / info.sample_aspect_ratio if info.quarter_turns % 2 else info.sample_aspect_ratio
    return replace(info, quarter_turns=0, mirrored=False, display_matrix=None, sample_aspect_ratio=ratio)
