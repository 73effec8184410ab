"""Still pictures: (H, W, 3) uint8 RGB arrays in and out of files, and their sizes.

The only module that knows OpenCV's BGR order.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import InputError, InvalidArgument, OutputError
from mst_deploy.files import replacing

Image = NDArray[np.uint8]
"""(H, W, 3) RGB, 0..255."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
JPEG_QUALITY = 95


def check_image(image: object, name: str) -> None:
    """Raise InvalidArgument unless ``image`` is a picture (H, W, 3) uint8 with at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidArgument(f"{name} must be an array (H, W, 3) of uint8, RGB; got {found}")
    if 0 in image.shape:
        raise InvalidArgument(f"{name} has no pixels: its shape is {image.shape}")


def decode_image(data: bytes, name: str | os.PathLike[str]) -> Image:
    """Encoded file content -> (H, W, 3) uint8 RGB; gray becomes RGB, EXIF orientation is applied.

    Raises InputError, naming ``name``, if the bytes are not a picture.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        pixels = None
    if pixels is None or pixels.size == 0:
        found = "the file is empty" if not data else "its content is damaged or of another kind"
        raise InputError(
            f"cannot read {name} as an image: {found}; "
            f"give one of {', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)}"
        )
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def load_image(path: Path) -> Image:
    """Read a picture file -> (H, W, 3) uint8 RGB. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give an image file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return decode_image(data, path)


def save_image(path: Path, image: Image) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix. Raises InvalidArgument, OutputError."""
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise InvalidArgument(
            field="output",
            problem=f"cannot write {path}: unknown image type {suffix!r}",
            hint=f"use one of {', '.join(IMAGE_SUFFIXES)}",
        )
    quality = {
        ".jpg": cv2.IMWRITE_JPEG_QUALITY,
        ".jpeg": cv2.IMWRITE_JPEG_QUALITY,
        ".webp": cv2.IMWRITE_WEBP_QUALITY,
    }.get(suffix)
    options = [quality, JPEG_QUALITY] if quality is not None else []
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OutputError(f"cannot encode {path} as {suffix}")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def resize(image: Image, width: int, height: int) -> Image:
    """Resample to exactly width x height; area averaging when shrinking, cubic when growing."""
    if (image.shape[1], image.shape[0]) == (width, height):
        return image
    if width < 1 or height < 1:
        raise InvalidArgument(field="size", problem=f"cannot resize an image to {width}x{height}")
    shrinks = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resize_short_side(image: Image, size: int) -> Image:
    """Resample so that the shorter side has ``size`` pixels; the aspect ratio is kept."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    return resize(image, max(size, round(width * scale)), max(size, round(height * scale)))


def center_crop(image: Image, size: int) -> Image:
    """(size, size, 3) out of the middle of the image at short side ``size``."""
    image = resize_short_side(image, size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def pad_to_minimum(image: Image, minimum: int) -> Image:
    """Repeat the last row and column until no side is shorter than ``minimum``."""
    down, right = (max(0, minimum - side) for side in image.shape[:2])
    return np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge") if down or right else image


def to_gray(image: Image) -> NDArray[np.uint8]:
    """Luma (BT.601) of (H, W, 3) RGB -> (H, W) uint8."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def mix(source: Image, painted: Image, share: float) -> Image:
    """(1 - share) source + share painted, rounded to the nearest level; exact at 0 and 1."""
    if share <= 0.0:
        return source
    if share >= 1.0:
        return painted
    return np.asarray(cv2.addWeighted(source, 1.0 - share, painted, share, 0.0), np.uint8)


def with_colors_of(painted: Image, source: Image) -> Image:
    """Luminance of ``painted``, colors of ``source``.

    Luma is that of BT.601. Adding one number to red, green and blue changes the luma by it and leaves
    both color differences as they are, so the source is shifted by the difference of the lumas; where
    a channel would leave 0..255 it is clipped. (Gatys et al., "Preserving Color in Neural Artistic Style
    Transfer", 2016, section "luminance-only transfer".)
    """
    wanted, own = to_gray(painted), to_gray(source)
    up = cv2.cvtColor(cv2.subtract(wanted, own), cv2.COLOR_GRAY2RGB)  # both stop at 0:
    down = cv2.cvtColor(cv2.subtract(own, wanted), cv2.COLOR_GRAY2RGB)  # one of the two is 0 everywhere
    return np.asarray(cv2.subtract(cv2.add(source, up), down), np.uint8)


def masked(inside: Image, background_style: Image, mask: NDArray[np.uint8]) -> Image:
    """``inside`` where the mask (H, W) is 255, ``background_style`` where it is 0, mixed between, rounded."""
    weight = mask[..., None].astype(np.uint16)
    total = inside * weight + background_style * (255 - weight)  # at most 255 * 255
    return ((total + 127) // 255).astype(np.uint8)
