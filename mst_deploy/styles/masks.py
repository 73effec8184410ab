"""Masks that limit a style to a part of the frame: a still picture, or a video that runs parallel to the
clip.

White (255) is stylized, black (0) is not, gray is between; colors count by their luma, transparent parts as
black. A mask is resized to the frame. A mask video starts with the clip and is shown as by a player: each
frame until the time of the next; if it ends early, its last frame stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mst_deploy.images import Image, masked, resize, to_gray
from mst_deploy.images.files import is_still, load_picture

if TYPE_CHECKING:
    from mst_deploy.video.reader import VideoReader

Weights = NDArray[np.uint8]
"""(H, W) uint8: 255 where the style is applied."""


class Mask(Protocol):
    """Mask as a function of time."""

    def at(self, time: Fraction, width: int, height: int) -> Weights:
        """Return (height, width) uint8 at ``time`` seconds after the first frame; times must not decrease."""
        ...


class StillMask:
    """Mask that does not change."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.fitted: Weights | None = None

    def at(self, time: Fraction, width: int, height: int) -> Weights:
        if self.fitted is None or self.fitted.shape != (height, width):
            self.fitted = fitted(self.image, width, height)
        return self.fitted


class MovingMask:
    """Mask made of a video's frames, each valid from its own time until the next one's."""

    def __init__(self, reader: VideoReader) -> None:
        self.base = reader.info.time_base
        self.frames = iter(reader)
        self.current = next(self.frames)
        self.start = self.current.pts
        self.following = next(self.frames, None)
        self.fitted: Weights | None = None

    def at(self, time: Fraction, width: int, height: int) -> Weights:
        while self.following is not None and (self.following.pts - self.start) * self.base <= time:
            self.current, self.following, self.fitted = self.following, next(self.frames, None), None
        if self.fitted is None or self.fitted.shape != (height, width):
            self.fitted = fitted(self.current.image, width, height)
        return self.fitted


@contextmanager
def open_mask(path: Path | None) -> Iterator[Mask | None]:
    """Open the mask of a file, a picture or a video; yields None for None. Raises
    InputError."""
    if path is None:
        yield None
    elif is_still(path):
        picture = load_picture(path)
        image, alpha = picture.image, picture.alpha
        yield StillMask(image if alpha is None else masked(image, np.zeros_like(image), alpha))
    else:
        from mst_deploy.video.reader import VideoReader  # imported here: a still mask needs no PyAV

        with VideoReader(path) as reader:
            yield MovingMask(reader)


def fitted(image: Image, width: int, height: int) -> Weights:
    """Convert (H, W, 3) uint8 RGB to a mask (height, width) uint8."""
    return to_gray(resize(image, width, height))
