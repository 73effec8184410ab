"""What a style is tuned to: a picture, a few moments of a video, or photographs that stand for all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from mst_deploy.errors import InputError
from mst_deploy.images import IMAGE_SUFFIXES, Image, load_image, resize_short_side
from mst_deploy.model.zoo import shipped_photographs
from mst_deploy.video.demuxing import is_sequence
from mst_deploy.video.info import ReadOptions
from mst_deploy.video.reader import VideoReader

FRAMES = 3  # of a video, unless told otherwise
SIZE = 320  # pixels, short side at most
SHIFT = (3, 2)  # pixels down and right, between two windows into a photograph
LEAST_CONTRAST = 2.0  # gray levels, standard deviation; a picture of one color has no way to a painting


@dataclass(frozen=True)
class FramePair:
    """A picture (H, W, 3) uint8 or, of a video, a frame and the one after it."""

    frame: Image
    following: Image | None = None

    @property
    def pictures(self) -> tuple[Image, ...]:
        return (self.frame,) if self.following is None else (self.frame, self.following)


def sample_frames(
    path: Path, count: int = FRAMES, size: int = SIZE, read: ReadOptions | None = None
) -> list[FramePair]:
    """A picture, or ``count`` moments evenly spread over a video; the short side is ``size`` at most.

    ``read`` says which part of the video is meant. Moments in which it shows one color only, as before it
    fades in, are left out. Raises InputError for what is neither, and where nothing else is shown.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES and not is_sequence(path):
        found = [FramePair(_limited(load_image(path), size))]
    else:
        frames = _frames(path, count, read or ReadOptions())
        found = [FramePair(*(_limited(frame, size) for frame in pair)) for pair in frames]
    shown = [moment for moment in found if not is_blank(moment)]
    if not shown:
        raise InputError(f"{path} shows one color only where it was looked at; there is nothing to tune to")
    return shown


def builtin_photos(count: int | None = None) -> list[FramePair]:
    """The shipped photographs, all or the first, in two windows each: as if the camera had moved a little.

    For a style that shall do for every picture and clip.
    """
    down, right = SHIFT
    found = []
    for path in shipped_photographs()[:count]:
        picture = load_image(path)
        first, second = picture[down:, right:], picture[:-down, :-right]
        found.append(FramePair(np.ascontiguousarray(first), np.ascontiguousarray(second)))
    return found


def is_blank(moment: FramePair) -> bool:
    """Whether a picture is of one color: nothing to normalize, and gradients that overflow."""
    return any(float(picture.std(axis=(0, 1)).max()) < LEAST_CONTRAST for picture in moment.pictures)


def _limited(picture: Image, size: int) -> Image:
    return picture if min(picture.shape[:2]) <= size else resize_short_side(picture, size)


def _frames(path: Path, count: int, read: ReadOptions) -> list[list[Image]]:
    """Up to two neighbors each from the middles of ``count`` equal parts of what is read of a video."""
    with VideoReader(path, read) as reader:
        info = reader.info
        first = [frame.image for frame in islice(reader, 2)]
    found = []
    for number in range(count):
        middle = Fraction(2 * number + 1, 2 * count) * info.frames / info.rate  # seconds
        span = replace(read.span, start=(read.span.start or 0) + middle)
        try:
            with VideoReader(path, replace(read, span=span)) as reader:
                found.append([frame.image for frame in islice(reader, 2)])
        except InputError:
            break  # the container promised more than there is
    return [frames for frames in found if frames] or [first]  # the start is known to be readable
