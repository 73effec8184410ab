"""Training data of the style optimization: a picture, frame pairs of a video, or built-in photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from mst_deploy.errors import InputError
from mst_deploy.images import Image, load_image, resize_short_side
from mst_deploy.images.files import is_still
from mst_deploy.model.zoo import shipped_photographs
from mst_deploy.styles.options import FRAME_SIZE, FRAMES
from mst_deploy.video.demuxing import is_pattern
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader

SHIFT = (3, 2)  # pixels down and right between two windows into a photograph
# smallest standard deviation in gray levels; a picture of one color has no useful gradient
LEAST_CONTRAST = 2.0


@dataclass(frozen=True)
class FramePair:
    """A picture (H, W, 3) uint8 or, of a video, a frame and the next one."""

    frame: Image
    following: Image | None = None

    @property
    def pictures(self) -> tuple[Image, ...]:
        """The one or two frames, (H, W, 3) uint8 each."""
        return (self.frame,) if self.following is None else (self.frame, self.following)


def sample_frames(
    path: Path, count: int = FRAMES, size: int = FRAME_SIZE, read: ReadOptions | None = None
) -> list[FramePair]:
    """Return a picture, or ``count`` frame pairs evenly spread over a video; the short side is at most
    ``size`` pixels.

    ``read`` selects the part of the video. Pairs of one color only, as before a fade-in, are skipped. Raises
    InputError for a file that is neither, or that shows nothing else.
    """
    if is_still(path) and (path.exists() or not is_pattern(path)):
        found = [FramePair(_limited(load_image(path), size))]
    else:
        frames = _frames(path, count, read or ReadOptions())
        found = [FramePair(*(_limited(frame, size) for frame in pair)) for pair in frames]
    usable = [pair for pair in found if not is_blank(pair)]
    if not usable:
        raise InputError(f"{path} shows one color only where it was looked at; there is nothing to tune to")
    return usable


def builtin_photos(count: int | None = None) -> list[FramePair]:
    """Return the shipped photographs, all or the first ``count``, in two windows each, as if the camera had
    moved.

    They are the training data of a style for any picture and clip.
    """
    down, right = SHIFT
    found = []
    for path in shipped_photographs()[:count]:
        picture = load_image(path)
        first, second = picture[down:, right:], picture[:-down, :-right]
        found.append(FramePair(np.ascontiguousarray(first), np.ascontiguousarray(second)))
    return found


def is_blank(pair: FramePair) -> bool:
    """Return whether a picture is of one color: there is nothing to normalize, and gradients overflow."""
    return any(float(picture.std(axis=(0, 1)).max()) < LEAST_CONTRAST for picture in pair.pictures)


def _limited(picture: Image, size: int) -> Image:
    return picture if min(picture.shape[:2]) <= size else resize_short_side(picture, size)


def _frames(path: Path, count: int, read: ReadOptions) -> list[list[Image]]:
    """Return up to two consecutive frames from the middle of each of ``count`` equal parts of the video."""
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
            break  # the container announces more than it has
    return [frames for frames in found if frames] or [first]  # the start is known to be readable
