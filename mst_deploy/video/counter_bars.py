"""A frame counter as black and white bars that survives stylizing, scaling and coding.

Two rows of cells, each a quarter of the height, fill the upper half of a picture. Each column is one bit:
white above black is 1, black above white is 0, so a bit is the sign of a difference and needs no threshold.
The first column is always 1, which shows whether a style has swapped light and dark; a checksum rejects wrong
readings.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import InvalidArgument

BITS, CHECK = 16, 4
COLUMNS = 1 + BITS + CHECK
COUNT = 1 << BITS
"""Period of the counter in frames."""
LEAST_WIDTH, LEAST_HEIGHT = 4 * COLUMNS, 32
"""Pixels below which bars cannot be read."""

Image = NDArray[np.uint8]


def draw_counter(image: Image, number: int) -> None:
    """Draw the counter into the upper half of a picture (H, W, 3), in place. Raises InvalidArgument."""
    height, width = image.shape[:2]
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        raise InvalidArgument(
            f"a picture of {width}x{height} has no room for the counter; give at least "
            f"{LEAST_WIDTH}x{LEAST_HEIGHT}"
        )
    edges = np.linspace(0, width, COLUMNS + 1).round().astype(int)
    quarter = height // 4
    for column, bit in enumerate(_bits(number % COUNT)):
        image[:quarter, edges[column] : edges[column + 1]] = 255 * bit
        image[quarter : 2 * quarter, edges[column] : edges[column + 1]] = 255 * (1 - bit)


def read_counter(image: Image) -> int | None:
    """Read the counter in a picture (H, W, 3) uint8 of any size, 0..65535; None where none can be read."""
    height, width = image.shape[:2]
    if width < COLUMNS or height < 8:
        return None
    luma = image.mean(axis=2)
    edges = np.linspace(0, width, COLUMNS + 1)
    quarter = height / 4
    differences = []
    for left, right in pairwise(edges):
        inset = (right - left) / 4  # neighbors bleed into the edges of a cell
        columns = slice(int(left + inset), max(int(left + inset) + 1, int(right - inset)))
        upper, lower = (
            luma[int(top + quarter / 4) : max(int(top + quarter / 4) + 1, int(top + 0.75 * quarter)), columns]
            for top in (0, quarter)
        )
        differences.append(float(upper.mean() - lower.mean()))
    signs = np.sign(differences)
    if signs[0] == 0:
        return None
    bits = (signs * signs[0] > 0).astype(int)
    number = int("".join(map(str, bits[1 : 1 + BITS])), 2)
    return number if list(bits) == _bits(number) else None


def _bits(number: int) -> list[int]:
    """Return the first bit, 16 bits of the number and 4 bits of its checksum."""
    check = 0b1010  # 0 is not all black
    for shift in range(0, BITS, 4):
        check ^= (number >> shift) & 0b1111
    return [1, *(int(bit) for bit in f"{number:016b}{check:04b}")]
