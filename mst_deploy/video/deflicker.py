"""Flicker reduction: each stylized frame is averaged with those before it, warped along the motion of the
source.

The output of a network changes with noise and with motion of a pixel although the scene does not. So earlier
stylized frames are warped to the present frame, and weighted by the similarity of both source and stylized
frames. Stylized frames are averaged, never averages: blur does not accumulate from frame to frame, and a
frame depends only on the ``REACH`` frames before it.

Strokes that do not follow the picture lose contrast in an average. It is restored: deviations from the local
mean are scaled until their variance is that of the stylized frame. Textures are blended like that (Heitz and
Neyret 2018, doi:10.1145/3233304); here the variance of the average is measured, not known.

Averaging along the motion is how video is denoised (Dubois and Sabri 1984, doi:10.1109/TCOM.1984.1096143);
warping stylized frames along optical flow, and leaving out disocclusions, is from Ruder et al. 2016 (arXiv
1604.08610).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.images import Image, resize_short_side
from mst_deploy.video.motion import Flow, estimate_flow, targets

REACH = 4  # earlier frames that count
SOURCE_SCALE = 0.05  # RGB distance, colors in 0..1, at which a part of the source counts exp(-1)
PAINT_SCALE = 0.2  # the same for the painting, which may change more
WINDOW = 5  # pixels over which squared distances are averaged, at the size of the analysis
ANALYSIS_SIDE = 288  # short side at which motion is estimated and pictures are compared
CONTRAST_WINDOW = 9  # pixels of the painting over which its contrast is kept
CONTRAST_FLOOR = 50.0  # levels squared, three channels together: less is canvas and noise, not strokes
SMALLEST = 16  # short side below which DIS has nothing to go by (it refuses less than 12 pixels)

Map = NDArray[np.float32]
"""Array (h, w) float32."""
Pixels = NDArray[np.float32]
"""Picture (H, W, 3) float32."""


@dataclass(frozen=True)
class Seen:
    """A frame of the recent past, or the present one."""

    source: Image = field(repr=False)
    """Source (h, w, 3) uint8, with a short side of at most ``ANALYSIS_SIDE`` pixels."""
    pictures: tuple[Image, ...] = field(repr=False)
    """Its stylized pictures, (H, W, 3) uint8 each."""
    flow: Flow | None = field(default=None, repr=False)
    """(h, w, 2), from the present frame to this one; None for the present one."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [picture.shape for picture in self.pictures]

    def one_frame_later(self, step: Flow) -> Seen:
        """Return this frame for the next present frame; ``step`` is the flow from the new present frame to
        the one before."""
        if self.flow is None:
            return replace(self, flow=step)
        beyond = cv2.remap(self.flow, *targets(step), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return replace(self, flow=step + np.asarray(beyond, np.float32))


class Deflicker:
    """Averages the stylized frames of one clip, in order. Holds ``REACH`` stylized frames in memory."""

    def __init__(self) -> None:
        self.past: tuple[Seen, ...] = ()
        """Past frames, the latest first."""

    def __call__(self, source: Image, pictures: Sequence[Image]) -> tuple[Image, ...]:
        """Return the stylized pictures of a frame with less flicker: (H, W, 3) uint8 each, the source of the
        same size.

        Where the number or the size of the pictures changes, the past is forgotten.
        """
        if not pictures:
            self.past = ()
            return ()
        present = Seen(at_analysis_size(source), tuple(pictures))
        if self.past and self.past[0].shapes != present.shapes:
            self.past = ()
        if self.past:
            step = motion_between(present.source, self.past[0].source)
            self.past = tuple(seen.one_frame_later(step) for seen in self.past)
        deflickered = averages(present, self.past)
        self.past = (present, *self.past)[:REACH]
        return deflickered


def at_analysis_size(source: Image) -> Image:
    """Return the source at the size at which motion and similarity are measured."""
    return resize_short_side(source, ANALYSIS_SIDE) if min(source.shape[:2]) > ANALYSIS_SIDE else source


def motion_between(now: Image, before: Image) -> Flow:
    """Return the flow (h, w, 2) from a frame to the one before it; zero in very small ones."""
    if min(now.shape[:2]) < SMALLEST:
        return np.zeros((*now.shape[:2], 2), np.float32)
    return estimate_flow(now, before, "dis")


def averages(present: Seen, past: Sequence[Seen]) -> tuple[Image, ...]:
    """Return the average of each picture of the present frame with those of the past, weighted by similarity.

    The present weighs 1, the past exp(-d(sources)² / ``SOURCE_SCALE``² - d(pictures)² / ``PAINT_SCALE``²).
    """
    sums = [picture.astype(np.float32) for picture in present.pictures]
    weights = [np.ones(picture.shape[:2], np.float32) for picture in present.pictures]
    for seen in past:
        assert seen.flow is not None
        changed = squared_distance(present.source, moved(seen.source, seen.flow), present.source)
        for now, before, total, weight in zip(present.pictures, seen.pictures, sums, weights, strict=True):
            here = moved(before, enlarged(seen.flow, now))
            repainted = squared_distance(now, here, present.source)
            alike = np.exp(-changed / SOURCE_SCALE**2 - repainted / PAINT_SCALE**2)
            alike = cv2.resize(alike, now.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            total += alike[..., None] * here
            weight += alike
    return tuple(
        with_contrast_of(picture, total / weight[..., None])
        for picture, total, weight in zip(present.pictures, sums, weights, strict=True)
    )


def with_contrast_of(painted: Image, averaged: Pixels) -> Image:
    """Return an average, (H, W, 3) float32 in 0..255, as uint8 with the local contrast of the present
    stylized picture."""
    mean, contrast = local(averaged)
    _, wanted = local(painted)
    gain = np.sqrt((wanted + CONTRAST_FLOOR) / (contrast + CONTRAST_FLOOR)).clip(1.0, (REACH + 1) ** 0.5)
    deviation = cv2.multiply(averaged - mean, cv2.merge([gain, gain, gain]))
    return np.asarray(cv2.add(mean, deviation, dtype=cv2.CV_8U), np.uint8)  # rounded, and kept in 0..255


def local(pixels: Image | Pixels) -> tuple[Pixels, Map]:
    """Return means (H, W, 3) over a window, and the variance (H, W) there of the three channels together."""
    window = (CONTRAST_WINDOW, CONTRAST_WINDOW)
    mean = cv2.boxFilter(pixels, cv2.CV_32F, window)
    squares = cv2.sqrBoxFilter(pixels, cv2.CV_32F, window)
    variance = cv2.transform(squares - cv2.multiply(mean, mean), np.ones((1, 3)))
    return np.asarray(mean, np.float32), np.maximum(np.asarray(variance, np.float32), 0.0)


def moved(picture: Image, flow: Flow) -> Image:
    """Warp (H, W, 3) uint8 along the flow, bicubic, which keeps strokes sharper than bilinear."""
    found = cv2.remap(picture, *targets(flow), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.uint8)


def enlarged(flow: Flow, picture: Image) -> Flow:
    """Resize the flow (h, w, 2) to the size of a picture (H, W, 3), in pixels of that picture."""
    (height, width), (high, wide) = picture.shape[:2], flow.shape[:2]
    if (height, width) == (high, wide):
        return flow
    larger = np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    larger *= np.array([width / wide, height / high], np.float32)
    return larger


def squared_distance(one: Image, other: Image, like: Image) -> Map:
    """Return the squared RGB distance (colors in 0..1) averaged over a window, at the size of ``like``:
    0..3."""
    difference = cv2.absdiff(one, other)
    squares = cv2.multiply(difference, difference, dtype=cv2.CV_32F)
    summed = cv2.transform(squares, np.full((1, 3), 1 / 255**2))
    if summed.shape != like.shape[:2]:
        summed = cv2.resize(summed, like.shape[1::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(summed, (WINDOW, WINDOW)), np.float32)
