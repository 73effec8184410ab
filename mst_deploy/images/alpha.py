"""Transparency of pictures: taken from what Pillow decodes, and the colors behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.images.profiles import as_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Image = NDArray[np.uint8]
"""(H, W, 3) RGB, 0..255."""
Alpha = NDArray[np.uint8]
"""(H, W): 0 is transparent, 255 opaque."""
BAND = 2**19
"""Pixels in a band of rows, about: large pictures are filled in band by band."""
LEAST = 1e-6


def row_bands(height: int, width: int) -> Iterator[slice]:
    """Yield bands that cover all rows; all but the last have an even number of rows."""
    rows = max(2, BAND // max(1, width) // 2 * 2)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def fill_transparent(image: Image, alpha: Alpha) -> Image:
    """Return the image (H, W, 3) with the colors behind fully transparent pixels (H, W) replaced by those
    around them.

    Means of the visible pixels over windows that double in size until they hold one; the colors stored there
    are ignored. Gray where nothing is visible. (Pull and push: Gortler et al., "The Lumigraph", 1996, section
    3.4.2.)
    """
    if alpha.all():
        return image
    height, width = alpha.shape
    if height == width == 1:
        return np.full_like(image, 128)
    half = ((height + 1) // 2, (width + 1) // 2)
    color, weight = np.empty((*half, 3), np.float32), np.empty(half, np.float32)
    for band in row_bands(height, width):
        known = (alpha[band] > 0).astype(np.float32)
        _halve(image[band] * known[..., None], known, color, weight, band)
    _fill(color, weight)
    filled = image.copy()
    for band in row_bands(height, width):
        hidden = alpha[band] == 0
        if hidden.any():
            around = np.rint(_enlarged(color, band, width))
            filled[band][hidden] = around[hidden].astype(np.uint8)
    return filled


def _fill(color: NDArray[Any], weight: NDArray[Any]) -> None:
    """Turn sums of known colors (H, W, 3) into their means, and fill in where nothing is known, in place.

    ``weight`` (H, W) is the share of the pixels under each value that are known. All are float32.
    """
    height, width = weight.shape
    if height == width == 1 and not weight.all():
        color[:] = 128
        return
    coarse = None
    if not weight.all():
        half = ((height + 1) // 2, (width + 1) // 2)
        coarse, share = np.empty((*half, 3), np.float32), np.empty(half, np.float32)
        for band in row_bands(height, width):
            _halve(color[band], weight[band], coarse, share, band)
        _fill(coarse, share)
    for band in row_bands(height, width):
        color[band] /= np.maximum(weight[band], LEAST)[..., None]
        if coarse is not None:
            unknown = weight[band] == 0
            color[band][unknown] = _enlarged(coarse, band, width)[unknown]


def _halve(
    color: NDArray[Any], weight: NDArray[Any], to_color: NDArray[Any], to_weight: NDArray[Any], band: slice
) -> None:
    """Write the means of 2x2 values of a band into maps of half its size; beyond an odd end all is 0."""
    height, width = weight.shape
    padding = ((0, height % 2), (0, width % 2))
    size = ((width + 1) // 2, (height + 1) // 2)
    rows = slice(band.start // 2, band.start // 2 + size[1])
    to_color[rows] = cv2.resize(np.pad(color, (*padding, (0, 0))), size, interpolation=cv2.INTER_AREA)
    to_weight[rows] = cv2.resize(np.pad(weight, padding), size, interpolation=cv2.INTER_AREA)


def _enlarged(coarse: NDArray[Any], band: slice, width: int) -> NDArray[Any]:
    """Return a band of rows of a map (H, W, 3) enlarged to twice its size by linear interpolation."""
    first, last = max(0, band.start // 2 - 1), min(len(coarse), (band.stop + 1) // 2 + 1)
    size = (2 * coarse.shape[1], 2 * (last - first))
    around = cv2.resize(coarse[first:last], size, interpolation=cv2.INTER_LINEAR)
    start = band.start - 2 * first
    return np.asarray(around[start : start + band.stop - band.start, :width])


def color_and_alpha(picture: PilImage) -> tuple[PilImage, Alpha | None]:
    """Return color without alpha, in the mode that its profile is for (L, RGB, CMYK), and alpha if any is
    below 255.

    Raises ValueError for pictures without a range of brightness that could be shown.
    """
    from PIL import Image as pillow

    mode = picture.mode
    if mode in ("F", "I"):
        raise ValueError("32 bits a channel, which have no white; convert it to 8 or 16 bits")
    if mode.startswith("I;16"):
        levels = np.asarray(picture).astype(np.uint16)
        key = picture.info.get("transparency")
        alpha = None if key is None else np.where(levels == key, 0, 255).astype(np.uint8)
        return pillow.fromarray((levels >> 8).astype(np.uint8)), _unless_opaque(alpha)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        whole = picture if mode == "RGBA" else picture.convert("RGBA")
        alpha = _unless_opaque(np.array(whole.getchannel("A")))
        gray = mode in ("1", "L", "LA", "La")
        return whole.getchannel("R") if gray else whole.convert("RGB"), alpha
    if mode in ("1", "L"):
        return picture.convert("L"), None
    return picture if mode == "CMYK" else as_rgb(picture), None


def _unless_opaque(alpha: Alpha | None) -> Alpha | None:
    return None if alpha is None or alpha.min(initial=255) == 255 else alpha


def is_graded(alpha: Alpha) -> bool:
    """Return whether pixels are transparent in part."""
    return bool(((alpha > 0) & (alpha < 255)).any())
