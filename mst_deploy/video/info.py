"""Values of a video: frames, the stream they come from, and reports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mst_deploy.video.color import ColorTags, Mastering
from mst_deploy.video.demuxing import Pipe
from mst_deploy.video.time_ranges import ClockSpan

Image = NDArray[np.uint8]
"""Picture (H, W, 3) uint8 RGB, upright."""
Plane = NDArray[np.uint8]
"""Plane (H, W) uint8."""


@dataclass(frozen=True)
class Frame:
    """One picture and its presentation time."""

    image: Image = field(repr=False)
    pts: int
    """Presentation time in units of the stream's time base."""
    duration: int
    """Duration in the same units; 0 if unknown."""
    captured: float | None = None
    """Time of capture by a live source, in seconds of ``time.monotonic``. None for a file."""
    alpha: Plane | None = field(default=None, repr=False)
    """Alpha (H, W) uint8: 255 where the picture is opaque; None if all of it is."""


@dataclass(frozen=True)
class VideoInfo:
    """Properties of the video stream that is read, from its container, and of how it is read."""

    path: Path
    width: int
    """Width of the upright picture in pixels; ``height`` likewise."""
    height: int
    time_base: Fraction
    """Seconds per unit of a frame's pts."""
    rate: Fraction
    """Average frames per second."""
    frames: int
    """Number of frames as far as the container knows, else an estimate; for progress only."""
    quarter_turns: int
    """Rotations by 90 degrees, counter-clockwise, from the coded (and mirrored) to the upright picture."""
    display_matrix: tuple[int, ...] | None
    sample_aspect_ratio: Fraction
    """Width divided by height of one pixel of the coded picture."""
    color: ColorTags
    """Color tags of the output: those of the input unless it is mapped to SDR."""
    audio: tuple[str, ...]
    """Codec of every audio stream."""
    not_kept: tuple[str, ...]
    """Descriptions of what an output cannot keep of this file."""
    clock: int
    """Least common denominator of the time bases of video and audio."""
    stream_index: int = 0
    """Number of the video stream in its file."""
    mirrored: bool = False
    """Whether the coded picture is mirrored, left to right, before it is rotated."""
    alpha: bool = False
    """Whether frames are transparent."""
    stereo_mode: str | None = None
    """Packing of two views in the picture, as named by Matroska."""
    depth: int = 8
    """Bits per color value that an output needs."""
    mastering: Mastering | None = None
    tone_mapped: bool = False
    """Whether HDR is tone-mapped to SDR, BT.709."""
    cut: ClockSpan | None = None
    """Part that is read; its start is moved to 0."""
    decoder: str = ""
    """FFmpeg's name of the decoder, with ``cuda`` where the GPU decodes."""
    pipe: Pipe | None = field(default=None, repr=False, compare=False)
    """Source of the other streams if the file can be read only once."""


@dataclass(frozen=True)
class WriteReport:
    """Report on a finished file."""

    not_kept: tuple[str, ...] = ()
    """Descriptions of what it does not keep of the source."""
    damage: tuple[str, ...] = ()
    """Descriptions of damaged parts of the other streams that could not be copied."""
    notes: tuple[str, ...] = ()
    """Notes on unexpected properties of the file, although nothing is lost."""


def resized(info: VideoInfo, width: int, height: int) -> VideoInfo:
    """Return the info of the same stream with upright frames of another size.

    The pixel aspect ratio is kept unless the aspect ratio of the picture changes; then pixels are square.
    """
    same_shape = abs(width * info.height - height * info.width) < 2 * max(info.width, info.height)
    ratio = info.sample_aspect_ratio if same_shape else Fraction(1)
    return replace(info, width=width, height=height, sample_aspect_ratio=ratio)


def turned_in_pixels(info: VideoInfo) -> VideoInfo:
    """Return the info of the same stream for a file that cannot store a rotation: it is coded upright."""
    ratio = 1 / info.sample_aspect_ratio if info.quarter_turns % 2 else info.sample_aspect_ratio
    return replace(info, quarter_turns=0, mirrored=False, display_matrix=None, sample_aspect_ratio=ratio)
