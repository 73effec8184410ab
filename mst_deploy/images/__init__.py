"""Still pictures as (H, W, 3) uint8 RGB arrays: resizing and mixing. ``files`` reads and writes
them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import InvalidArgument
from mst_deploy.images.alpha import Alpha, Image, row_bands
from mst_deploy.images.files import IMAGE_SUFFIXES, JPEG_QUALITY, decode_image, load_image, save_image

__all__ = [
    "IMAGE_SUFFIXES",
    "JPEG_QUALITY",
    "Alpha",
    "Image",
    "center_crop",
    "check_image",
    "decode_image",
    "load_image",
    "masked",
    "mix",
    "on_white",
    "pad_to_minimum",
    "resize",
    "resize_long_side",
    "resize_short_side",
    "save_image",
    "to_gray",
    "with_colors_of",
]


def check_image(image: object, name: str) -> None:
    """Raise InvalidArgument unless ``image`` is a picture (H, W, 3) uint8 with at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidArgument(f"{name} must be an array (H, W, 3) of uint8, RGB; got {found}")
    if 0 in image.shape:
        raise InvalidArgument(f"{name} has no pixels: its shape is {image.shape}")


def resize(image: Image, width: int, height: int) -> Image:
    """Resize to exactly width x height pixels; area averaging when shrinking, cubic when enlarging.

    Raises InvalidArgument for a size below 1 pixel.
    """
    if (image.shape[1], image.shape[0]) == (width, height):
        return image
    if width < 1 or height < 1:
        raise InvalidArgument(field="size", problem=f"cannot resize an image to {width}x{height}")
    shrinks = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def letterboxed(image: Image, width: int, height: int) -> Image:
    """Resize to width x height; where aspect ratios differ by more than rounding, add black bars."""
    high, wide = image.shape[:2]
    scale = min(width / wide, height / high)
    inner_wide, inner_high = (max(1, round(side * scale)) for side in (wide, high))
    if width - inner_wide <= 2 and height - inner_high <= 2:
        return resize(image, width, height)
    boxed = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner_high) // 2, (width - inner_wide) // 2
    boxed[top : top + inner_high, left : left + inner_wide] = resize(image, inner_wide, inner_high)
    return boxed


def resize_short_side(image: Image, size: int) -> Image:
    """Resize so that the shorter side has ``size`` pixels; the aspect ratio is kept."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    return resize(image, max(size, round(width * scale)), max(size, round(height * scale)))


def resize_long_side(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize (H, W, ...) so that the longer side has ``size`` pixels; the aspect ratio is kept."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    return resize(image, max(1, round(width * scale)), max(1, round(height * scale)))


def on_white(image: Image, alpha: Alpha | None) -> Image:
    """Return (H, W, 3) as it looks on white paper, with the transparency (H, W)."""
    return image if alpha is None else masked(image, np.full_like(image, 255), alpha)


def center_crop(image: Image, size: int) -> Image:
    """Return the center (size, size, 3) of the image, resized to a short side of ``size`` pixels."""
    image = resize_short_side(image, size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def pad_to_minimum(image: Image, minimum: int) -> Image:
    """Repeat the last row and column until no side is shorter than ``minimum``."""
    down, right = (max(0, minimum - side) for side in image.shape[:2])
    return np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge") if down or right else image


def to_gray(image: Image) -> NDArray[np.uint8]:
    """Return the luma (BT.601) of (H, W, 3) RGB, (H, W) uint8."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def mix(source: Image, stylized: Image, opacity: float) -> Image:
    """Return (1 - opacity) source + opacity stylized, rounded to the nearest level; exact at 0 and 1."""
    if opacity <= 0.0:
        return source
    if opacity >= 1.0:
        return stylized
    return np.asarray(cv2.addWeighted(source, 1.0 - opacity, stylized, opacity, 0.0), np.uint8)


def with_colors_of(stylized: Image, source: Image) -> Image:
    """Return the luminance of ``stylized`` with the colors of ``source``, (H, W, 3) uint8.

    Luma is that of BT.601. Adding one number to red, green and blue changes the luma by it and preserves both
    color differences, so the source is shifted by the difference of the lumas; channels are clipped to
    0..255. (Gatys et al., "Preserving Color in Neural Artistic Style Transfer", 2016, section "luminance-only
    transfer".)
    """
    target, own = to_gray(stylized), to_gray(source)
    up = cv2.cvtColor(cv2.subtract(target, own), cv2.COLOR_GRAY2RGB)  # both saturate at 0:
    down = cv2.cvtColor(cv2.subtract(own, target), cv2.COLOR_GRAY2RGB)  # one of the two is 0 everywhere
    return np.asarray(cv2.subtract(cv2.add(source, up), down), np.uint8)


def masked(inside: Image, outside: Image, mask: NDArray[np.uint8]) -> Image:
    """Return ``inside`` where the mask (H, W) is 255, ``outside`` where it is 0, and their mix between,
    rounded."""
    mixed = np.empty_like(inside)
    for band in row_bands(*mask.shape):
        weight = mask[band][..., None].astype(np.uint16)
        total = inside[band] * weight + outside[band] * (255 - weight)  # at most 255 * 255
        mixed[band] = (total + 127) // 255
    return mixed
