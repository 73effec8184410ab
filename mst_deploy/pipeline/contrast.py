"""Contrast of a frame: flat frames are shown as they are.

Instance normalization takes mean and scale out of every map, so a network stylizes black, white and gray
frames alike, in the middle color of the style. Fades would end there instead of in black.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FLAT, FULL = 2.0, 10.0
"""Contrast in gray levels: up to the first value a frame is shown as it is, from the second on as
stylized."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of BT.601
THUMBNAIL = (32, 32)  # pixels: averages out grain, which is no contrast


def contrast(image: NDArray[np.uint8]) -> float:
    """Return the standard deviation of the gray levels (0 to 255) of an image (H, W, 3) uint8 RGB, without
    its grain."""
    height, width = image.shape[:2]
    size = (min(THUMBNAIL[0], width), min(THUMBNAIL[1], height))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return float(np.std(small.astype(np.float32) @ LUMA))


def stylized_opacity(image: NDArray[np.uint8]) -> float:
    """Return the opacity of the stylized picture, 0 to 1, from the contrast of its source (H, W, 3)."""
    x = min(1.0, max(0.0, (contrast(image) - FLAT) / (FULL - FLAT)))
    return x * x * (3 - 2 * x)  # without a corner at either end
