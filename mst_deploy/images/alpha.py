"""Transparency of pictures: taken from what Pillow decodes, and the colors behind it."""

from __future__ import annotations

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


def fill_transparent(image: Image, alpha: Alpha) -> Image:
    """Return the image (H, W, 3) with the colors behind fully transparent pixels (H, W) replaced by those
    around them.

    Means of the visible pixels over windows that double in size until they hold one; the colors stored there
    are ignored. Gray where nothing is visible. (Pull and push: Gortler et al., "The Lumigraph", 1996, section
    3.4.2.)
    """
    hidden = alpha == 0
    if not hidden.any():
        return image
    filled = image.copy()
    filled[hidden] = np.rint(_pulled(image, ~hidden))[hidden].astype(np.uint8)
    return filled


def _pulled(image: NDArray[Any], known: NDArray[np.bool_]) -> Any:
    """Return (H, W, 3) float32: the mean of the known pixels in the smallest window around each pixel that
    has any."""
    weight = known.astype(np.float32)
    color = image.astype(np.float32) * weight[..., None]
    return _filled(color, weight)


def _filled(color: NDArray[Any], weight: NDArray[Any]) -> Any:
    """Return the filled colors (H, W, 3); all are float32. ``color`` is already weighted by ``weight`` (H,
    W)."""
    height, width = weight.shape
    own = color / np.maximum(weight, 1e-6)[..., None]
    if weight.all():
        return own
    if height == width == 1:
        return np.full_like(own, 128.0)
    half = ((width + 1) // 2, (height + 1) // 2)
    padding = ((0, height % 2), (0, width % 2))
    coarse = _filled(
        cv2.resize(np.pad(color, (*padding, (0, 0))), half, interpolation=cv2.INTER_AREA),
        cv2.resize(np.pad(weight, padding), half, interpolation=cv2.INTER_AREA),
    )
    around = cv2.resize(coarse, (half[0] * 2, half[1] * 2), interpolation=cv2.INTER_LINEAR)
    return np.where(weight[..., None] > 0, own, around[:height, :width]).astype(np.float32)


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
        whole = picture.convert("RGBA")
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
