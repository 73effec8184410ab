"""Synthetic pictures for tests that need no video."""

from __future__ import annotations

from typing import Any

import numpy as np


def picture(width: int, height: int, index: int) -> Any:
    """A moving gradient with a square: (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([(x * 3 + index * 5) % 256, (y * 5) % 256, (x + y + index) % 256], axis=-1)
    side = max(2, min(width, height) // 4)
    left = index % max(1, width - side)
    image[2 : 2 + side, left : left + side] = (230, 30, 60)
    return image.astype(np.uint8)
