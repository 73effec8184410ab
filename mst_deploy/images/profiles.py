"""Color profiles: pictures of Pillow in sRGB."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage


def as_rgb(picture: PilImage) -> PilImage:
    """Convert to RGB; Pillow would copy what is RGB already."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def in_srgb(picture: PilImage, profile: bytes | None) -> PilImage:
    """Convert L, RGB or CMYK to sRGB through the color profile, unless that is sRGB or cannot be used."""
    if profile:
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transform = ImageCms.buildTransform(
                source,
                ImageCms.createProfile("sRGB"),
                picture.mode,
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError):  # damaged, or of another color space than the picture
            return as_rgb(picture)
        if picture.mode == "CMYK" or _changes_colors(transform, picture.mode):
            converted = ImageCms.applyTransform(picture, transform)
            assert converted is not None  # only None when done in place
            return converted
    return as_rgb(picture)


def _changes_colors(transform: Any, mode: str) -> bool:
    """Return whether a transform does more than rounding to a grid of colors."""
    from PIL import Image as pillow
    from PIL import ImageCms

    levels = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    colors = pillow.fromarray(grid if mode == "RGB" else levels[None]).convert("RGB")
    converted = ImageCms.applyTransform(colors if mode == "RGB" else colors.convert("L"), transform)
    return bool((np.abs(np.asarray(converted, np.int16) - np.asarray(colors, np.int16)) > 2).any())
