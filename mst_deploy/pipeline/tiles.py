"""Pictures of any size in bounded memory: stage by stage and tile by tile, with the result of the whole.

Instance normalization ties every pixel to all others. The generator is cut in front of every normalization
(``onnx_passes.cut``): each stage runs over all tiles, and mean and variance of what the next normalization
sees are put together from the tiles. What stages hand on is in temporary files, as float16. (Others measure
on a thumbnail, where strokes have another size: Chen et al., "Towards Ultra-Resolution Neural Style Transfer
via Thumbnail Instance Normalization", 2022, arXiv 2103.11784.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import Images, StageRunner, TilingBackend, enough_memory
from mst_deploy.model.bundle import Manifest
from mst_deploy.model.canvas import Canvas
from mst_deploy.model.film import FilmParams
from mst_deploy.onnx_passes.stage import MEASURED, MEASURED_SHAPE, PICTURE, STEPS, WINDOW, WRITTEN
from mst_deploy.pipeline.map_store import MapStore, scaled

WHOLE_PIXELS = 3 * 2**20
"""Larger pictures are stylized in tiles. One of this size takes 1.5 GB as a whole with the model ``base``."""
TILE = 64
"""Largest side of the part of a tile that is kept, in cells."""
CELL = 8
"""Side of a cell: pixels under one value of the coarsest map, that of the directions of strokes. Tiles
consist of whole cells."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a picture and the larger one that it is computed from, rows and columns in cells."""

    kept: tuple[slice, slice]
    seen: tuple[slice, slice]

    def window(self, step: int) -> NDArray[np.int64]:
        """Return top, left, bottom, right of ``kept`` within ``seen``, in values of a map of a step.

        At the end of a picture whose size is no multiple of a cell this is more than there is.
        """
        starts, stops = (
            [getattr(kept, end) - seen.start for kept, seen in zip(self.kept, self.seen, strict=True)]
            for end in ("start", "stop")
        )
        return np.array([*starts, *stops], np.int64) * (CELL // step)


def stylize_in_tiles(
    image: Images,
    film: FilmParams,
    canvas: Canvas | None,
    backend: TilingBackend,
    manifest: Manifest,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Images:
    """Stylize a picture (H, W, 3) with a FiLM vector (P,) and a canvas (H, W, 1) -> the same shape, uint8.

    No side may be shorter than the model's minimum. ``on_progress`` gets the finished part of the work, 0 to
    1. Raises OutputError where there is no room for temporary files.
    """
    height, width = image.shape[:2]
    result = np.empty_like(image)
    inputs: dict[str, Any] = {"film": film[None]}
    pictures = {"frames": image} if canvas is None else {"frames": image, "canvas": canvas}
    stages = backend.stages()
    run: StageRunner | None = None
    with MapStore(height, width, manifest) as store:
        for index, stage in enumerate(stages):
            run = None  # frees what it holds before the next stage takes memory
            run = backend.open(stage)
            moments = Moments()
            parts = tiles(height, width, stage.radius)
            for count, tile in enumerate(parts, start=1):
                values = {name: inputs[name] for name in stage.inputs & inputs.keys()}
                values[WINDOW] = tile.window(stage.step)
                for name in stage.inputs & pictures.keys():
                    values[name] = np.ascontiguousarray(pictures[name][scaled(tile.seen, CELL)])[None]
                for name in stage.inputs & STEPS.keys():
                    values[name] = store.read(name, scaled(tile.seen, CELL // STEPS[name]))
                with enough_memory((1, *image.shape)):
                    outputs = run(values)
                for name in stage.writes:
                    store.write(name, scaled(tile.kept, CELL // STEPS[name]), outputs[f"{name}{WRITTEN}"])
                if stage.measures:
                    shape = outputs[MEASURED_SHAPE]
                    moments.add(shape, outputs[MEASURED.mean], outputs[MEASURED.variance])
                if PICTURE in outputs:
                    result[scaled(tile.kept, CELL)] = outputs[PICTURE][0]
                on_progress((index + count / len(parts)) / len(stages))
            if stage.measures:
                inputs[stage.measures.mean], inputs[stage.measures.variance] = moments.total()
            store.keep(frozenset().union(*(later.inputs for later in stages[index + 1 :])))
    return result


def tiles(height: int, width: int, radius: int) -> list[Tile]:
    """Return tiles that cover a picture of a size in pixels once, with at least ``radius`` pixels around.

    All of them see areas of one size in cells. At the borders of the picture there is less around them, and
    more on the other side. Those that see cells of which only a part is in the picture come after the others,
    so that runtimes prepare for each size in pixels once, and for one at a time.
    """
    margin = -(-radius // CELL)
    rows, columns = (_parts(-(-side // CELL), margin) for side in (height, width))
    parts = [
        Tile((row, column), (seen_rows, seen_columns))
        for row, seen_rows in rows
        for column, seen_columns in columns
    ]
    return sorted(parts, key=lambda t: (t.seen[0].stop * CELL > height, t.seen[1].stop * CELL > width))


def _parts(side: int, margin: int) -> list[tuple[slice, slice]]:
    """Return the parts of a side that are kept, nearly equal, and what is seen for them."""
    kept = -(-side // -(-side // TILE))
    seen = min(side, kept + 2 * margin)
    parts = []
    for start in range(0, side, kept):
        first = min(max(0, start - margin), side - seen)
        parts.append((slice(start, min(start + kept, side)), slice(first, first + seen)))
    return parts


class Moments:
    """Mean and variance of a map, put together from those of its tiles (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0
        """Sum of the squared distances to the mean, (1, C, 1, 1) float64."""

    def add(self, shape: NDArray[np.int64], mean: NDArray[np.float32], variance: NDArray[np.float32]) -> None:
        """Add a tile of a shape (1, C, h, w)."""
        added = int(shape[2] * shape[3])
        total = self.count + added
        distance = mean.astype(np.float64) - self.mean
        self.mean = self.mean + distance * added / total
        self.squares = self.squares + variance.astype(np.float64) * added
        self.squares = self.squares + distance**2 * self.count * added / total
        self.count = total

    def total(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and variance, each (1, C, 1, 1)."""
        return np.asarray(self.mean, np.float32), np.asarray(self.squares / self.count, np.float32)
