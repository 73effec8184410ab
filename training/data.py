"""Sampling and augmentation of training images: drawing probabilities, crops, color shifts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.datasets import ImageFile
from mst_deploy.images import Image, resize_short_side


def group_weights(images: Sequence[ImageFile], favored: Iterable[str], factor: float) -> NDArray[np.float64]:
    """Return the drawing probability of each image (N,): groups are equal (favored ones times ``factor``),
    as are their images."""
    groups = [image.group for image in images]
    size = Counter(groups)
    boosted = set(favored)
    raw = np.array([(factor if group in boosted else 1.0) / size[group] for group in groups])
    return np.asarray(raw / raw.sum(), np.float64)


def random_crop(image: Image, size: int, zoom: float, rng: np.random.Generator) -> Image:
    """Return a (size, size, 3) crop, mirrored half of the time, of the image at a short side of size *
    1..zoom."""
    crop = cut(image, size, rng.uniform(1.0, zoom), rng)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def cut(image: Image, size: int, zoom: float | None, rng: np.random.Generator) -> Image:
    """Return a (size, size, 3) crop of the image at a short side of size * zoom; not resized if ``zoom``
    is None."""
    if zoom is not None:
        image = resize_short_side(image, round(size * zoom))
    top = rng.integers(image.shape[0] - size + 1)
    left = rng.integers(image.shape[1] - size + 1)
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def detail(image: Image) -> float:
    """Return the detail of an image (H, W, 3): the mean over pixels of the local standard deviation of
    lightness."""
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean, square = cv2.blur(light, (15, 15)), cv2.blur(light * light, (15, 15))
    return float(np.sqrt(np.clip(square - mean * mean, 0, None)).mean())


def by_detail(images: Sequence[Image]) -> list[Image]:
    """Sort images by detail, the flattest first."""
    return sorted(images, key=detail)


def shift_colors(image: Image, rng: np.random.Generator) -> Image:
    """Return the same image in other colors: hue rotated, saturation scaled.

    A few hundred paintings have few palettes; with this augmentation the encoder has to infer the palette
    from the image instead of recognizing the painting.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(0, 256)) % 256
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.6, 1.5), 0, 255)
    turned = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
    return np.asarray(turned, np.uint8)
