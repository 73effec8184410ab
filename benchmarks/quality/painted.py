"""Share of a photograph's flat area that a result paints, as strongly as the artwork does.

Means over all pixels hide it: a sky or a wall without strokes adds little to a distance of Gram matrices, and
the rest of the picture can compensate for it. Pictures are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.images import Image

Map = NDArray[np.float32]

AREA = cv2.INTER_AREA  # averages when shrinking; bilinear when enlarging

FLAT_WINDOW = 15  # pixels
FLAT_DEVIATION = 0.02 * 255  # standard deviation of the lightness in a window below which it is flat
DETAIL_SIGMA = 6.0  # pixels: detail is the residual of a Gaussian of this size
QUANTILE = 30  # percentile of an artwork's detail: exceeded everywhere but in its calmest parts
ENOUGH = 0.5  # factor of that percentile
LEAST_FLAT = 0.02  # smallest flat share of a photograph: with less there is nothing to measure
ARTWORK_SIDE = 512
"""Longest side at which artworks are evaluated, pixels: the size at which viewers see one beside a result."""
FLAT_ARTWORK = 0.15
"""Share of flat pixels from which on an artwork counts as flat: posters, prints, drawings on paper."""


def painted_share(photo: Image, result: Image, artwork: Image) -> float:
    """Return the share of the photograph's flat pixels where the result is painted; NaN if hardly any are
    flat.

    A pixel is flat where the lightness (0..255) deviates by less than FLAT_DEVIATION in a window of
    FLAT_WINDOW pixels. A result is painted where its ``detail`` is at least half of the 30th percentile of
    the artwork's. A photograph of another size than the result is resampled to it.
    """
    height, width = result.shape[:2]
    if photo.shape != result.shape:
        photo = _image(cv2.resize(photo, (width, height), interpolation=AREA))
    flat = flat_pixels(photo)
    if flat.mean() < LEAST_FLAT:
        return math.nan
    return float((detail(lightness(result))[flat] >= painted_from(artwork)).mean())


def own_painted_share(artwork: Image) -> float:
    """Return the share of an artwork's own flat pixels that are painted, by its own threshold; 1 if none
    are flat."""
    seen = shown(artwork)
    flat = flat_pixels(seen)
    return float((detail(lightness(seen))[flat] >= painted_from(artwork)).mean()) if flat.any() else 1.0


def is_flat(artwork: Image) -> bool:
    """Return whether much of an artwork is flat itself, so that its style leaves flat areas unpainted."""
    return bool(flat_pixels(shown(artwork)).mean() >= FLAT_ARTWORK)


def painted_from(artwork: Image) -> float:
    """Return the detail from which on a result counts as painted."""
    return ENOUGH * float(np.percentile(detail(lightness(shown(artwork))), QUANTILE))


def shown(artwork: Image) -> Image:
    """Return the artwork with a longest side of ARTWORK_SIDE."""
    scale = ARTWORK_SIDE / max(artwork.shape[:2])
    return (
        artwork if scale == 1 else _image(cv2.resize(artwork, None, fx=scale, fy=scale, interpolation=AREA))
    )


def lightness(image: Image) -> Map:
    """Return CIELAB's L, scaled to 0..255 and rounded to whole levels: (H, W) float32."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 0], np.float32)


def flat_pixels(image: Image) -> NDArray[np.bool_]:
    """Return where the lightness hardly deviates around a pixel: (H, W) bool."""
    light = lightness(image)
    window = (FLAT_WINDOW, FLAT_WINDOW)
    mean = cv2.blur(light, window)
    variance = np.clip(cv2.blur(light * light, window) - mean * mean, 0, None)
    return np.asarray(np.sqrt(variance) < FLAT_DEVIATION)


def detail(light: Map) -> Map:
    """Return the local root mean square of what is finer than DETAIL_SIGMA, weighted by the same Gaussian:
    (H, W)."""
    fine = light - cv2.GaussianBlur(light, (0, 0), DETAIL_SIGMA)
    return np.asarray(np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), DETAIL_SIGMA)), np.float32)


def _image(pixels: object) -> Image:
    return np.asarray(pixels, np.uint8)
