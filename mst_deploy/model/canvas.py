"""The canvas: white noise from which a generator makes strokes, and the canvas of a still picture.

``video.canvas`` moves it along the motion of a video; ``canvas_bands`` filters it inside the graph.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]
"""Uniform integers 0..255: (H, W, 1), or (N, H, W, 1), uint8."""
TILE = 2048
"""Side of the noise in pixels, a power of 2; beyond it the noise repeats."""


@lru_cache(maxsize=4)
def noise_tile(seed: int) -> NDArray[np.uint8]:
    """Return white noise (TILE, TILE) uint8, determined by the seed. Read-only."""
    tile = np.random.default_rng(seed).integers(0, 256, (TILE, TILE), np.uint8)
    tile.flags.writeable = False
    return tile


def still_canvas(height: int, width: int, seed: int = 0) -> Canvas:
    """Return the canvas (H, W, 1) uint8 of a still; smaller ones are the upper left corner of larger ones."""
    tile = noise_tile(seed)
    rows, columns = np.arange(height) % TILE, np.arange(width) % TILE
    return np.ascontiguousarray(tile[rows[:, None], columns[None], None])
