"""Rotation and mirroring of a coded picture: its display matrix, as in ISO/IEC 14496-12, 6.2.2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ONE = 1 << 16


def orientation(matrix: Sequence[int]) -> tuple[int, bool]:
    """Return (quarter turns counter-clockwise, mirrored) of FFmpeg's display matrix; mirroring comes first.

    The pixel (x, y) is shown at (a x + c y, b x + d y) with the matrix (a, b, u, c, d, v, ...), y pointing
    down. Other angles are rounded to quarter turns.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if abs(a) >= abs(b):
        return (0 if a >= 0 else 2), mirrored
    return (1 if b < 0 else 3), mirrored


def matrix_of(turns: int) -> tuple[int, ...]:
    """Return the display matrix of a number of quarter turns counter-clockwise: 16.16, the last column
    2.30."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    return (ONE * cosine, -ONE * sine, 0, ONE * sine, ONE * cosine, 0, 0, 0, 1 << 30)


def upright(image: NDArray[np.uint8], turns: int, mirrored: bool) -> NDArray[np.uint8]:
    """Convert a coded picture (H, W, ...) to the displayed one, contiguous."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def coded(image: NDArray[np.uint8], turns: int, mirrored: bool) -> NDArray[np.uint8]:
    """Convert a displayed picture to the coded one, contiguous: the inverse of :func:`upright`."""
    turned = np.rot90(image, -turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
