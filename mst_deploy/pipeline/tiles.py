"""Pictures of any size in bounded memory: tile by tile, with statistics of a sample of the whole.

Instance normalization ties every pixel to all others. Mean and variance of each map are measured once on
crops that are spread evenly over the picture, at the picture's own scale, and given to all tiles; so tiles
meet without seams. (Chen et al., "Towards Ultra-Resolution Neural Style Transfer via Thumbnail Instance
Normalization", 2022, arXiv 2103.11784, measure on a thumbnail instead, where strokes have another size.)
Tiles overlap by the radius of the receptive field, so that with exact statistics they equal the whole
picture's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mst_deploy.backends import Images, TilingBackend
from mst_deploy.model.bundle import Manifest
from mst_deploy.model.canvas import Canvas
from mst_deploy.model.film import FilmParams

WHOLE_PIXELS = 2**25
"""Larger pictures are stylized in tiles, whose sampled statistics change the result a little. Pictures of 24
megapixels are not; they take 9 GB with the model ``base``."""
TILE = 512
"""Side of the part of a tile that is kept, in pixels; a multiple of the network's coarsest step."""
CROPS, CROP_SIZE = 3, 424
"""Rows and columns of crops that statistics are measured on, and their side in pixels."""
STEP = 4
"""Pixels of the picture under one value of the coarsest map; tiles and crops begin at multiples of it."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of the result and the larger one that it is computed from, both in pixels of the
    picture."""

    kept: tuple[slice, slice]
    seen: tuple[slice, slice]

    @property
    def inside(self) -> tuple[slice, slice]:
        """Return the place of ``kept`` within the result of ``seen``."""
        rows, columns = (
            slice(kept.start - seen.start, kept.stop - seen.start)
            for kept, seen in zip(self.kept, self.seen, strict=True)
        )
        return rows, columns


def stylize_in_tiles(
    image: Images, film: FilmParams, canvas: Canvas | None, backend: TilingBackend, manifest: Manifest
) -> Images:
    """Stylize a picture (H, W, 3) with a FiLM vector (P,) and a canvas (H, W, 1) -> the same shape, uint8.

    No side may be shorter than the model's minimum.
    """
    statistics = backend.measure(
        sample(image)[None], film[None], None if canvas is None else sample(canvas)[None]
    )
    result = np.empty_like(image)
    height, width = image.shape[:2]
    for tile in tiles(height, width, overlap_of(manifest)):
        seen = np.ascontiguousarray(image[tile.seen])[None]
        noise = None if canvas is None else np.ascontiguousarray(canvas[tile.seen])[None]
        result[tile.kept] = backend(seen, film[None], noise, statistics)[0][tile.inside]
    return result


def sample(image: Images) -> Images:
    """Return crops spread evenly over a picture (H, W, C), side by side in one; small pictures are returned
    whole."""
    height, width = image.shape[:2]
    side = CROPS * CROP_SIZE
    if height * width <= side * side:
        return image
    rows, columns = (_spread(length) for length in (height, width))
    return np.concatenate([np.concatenate([image[y, x] for x in columns], axis=1) for y in rows], axis=0)


def _spread(length: int) -> list[slice]:
    """Return parts of a side that begin at multiples of the step, without repetition even where the side is
    short."""
    size = min(CROP_SIZE, length // CROPS // STEP * STEP or length)
    starts = np.linspace(0, length - size, CROPS if size < length else 1)
    return [slice(start, start + size) for start in (int(at) // STEP * STEP for at in starts)]


def tiles(height: int, width: int, overlap: int) -> Iterator[Tile]:
    """Yield tiles that cover a picture once, each with ``overlap`` pixels around it, fewer at the border."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            yield Tile(
                (slice(top, bottom), slice(left, right)),
                (
                    slice(max(0, top - overlap), min(height, bottom + overlap)),
                    slice(max(0, left - overlap), min(width, right + overlap)),
                ),
            )


def overlap_of(manifest: Manifest) -> int:
    """Return the radius of the network's receptive field in pixels, rounded up to the step.

    The sum over its convolutions of radius times the step of the map that they are on: 9x9 at both ends, 3x3
    between, and beside the first two the canvas, smoothed band by band (``model.canvas_bands``) at half
    resolution.
    """
    blocks, bands = int(manifest.network["residual_blocks"]), manifest.canvas_bands
    first = 4 + 1
    if bands:
        first = max(first, 2 + 2 * sum(2 * 2**band for band in range(bands)) + 2)
    radius = first + 2 + 2 * blocks * 4 + 2 + 1 + 4
    return -(-(radius + STEP) // STEP) * STEP  # a step more: doubling and halving round
