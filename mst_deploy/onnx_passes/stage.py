"""What is known of a stage of the generator without reading its graph; see ``cut``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StatisticsNames:
    """What a graph calls the statistics of one normalization, each (1, C, 1, 1) float32."""

    mean: str
    variance: str


WINDOW = "window"
"""Input of every stage: top, left, bottom, right of what is kept of its outputs, int64 (4,)."""
MEASURED = StatisticsNames("measured.mean", "measured.variance")
"""Outputs of a stage that measures, each (1, C, 1, 1) float32."""
MEASURED_SHAPE = "measured.shape"
"""Output of a stage that measures: 1, C, h, w of what was measured, int64 (4,)."""
PICTURE = "picture"
"""Output of the last stage, (1, h, w, 3) uint8."""
WRITTEN = ".written"
"""Ending of the names of outputs that are stored."""
LINES, BANDS, DOWN, TRUNK, INNER, SUM, UP = "lines", "bands", "down", "trunk", "inner", "sum", "up"
STEPS = {LINES: 2, BANDS: 2, DOWN: 2, TRUNK: 4, INNER: 4, SUM: 4, UP: 2}
"""Stored maps, each (1, C, H / step, W / step) float16 with sizes rounded up: an oriented canvas smoothed
in each direction; the octaves of the canvas; what
is normalized at half resolution on the way down; at the end of a residual block; within one; the sum of the
blocks so far; what is normalized at half resolution on the way up. Pixels of the picture under one value of
each, along each side."""


@dataclass(frozen=True)
class Stage:
    """A part of the generator, to be run over the tiles of a picture."""

    graph: bytes
    inputs: frozenset[str]
    """Names of the graph's inputs: those of the generator, statistics, stored maps, ``WINDOW``."""
    outputs: tuple[str, ...]
    step: int
    """Pixels of the picture under one value of its outputs, along each side."""
    radius: int
    """Pixels around a tile that its outputs depend on."""
    writes: tuple[str, ...] = ()
    """Stored maps that it makes. Of one that it reads as well, only the values under its own are read, so it
    can be replaced tile by tile."""
    measures: StatisticsNames | None = None
    """Inputs of later stages that it makes, as ``MEASURED`` for each tile."""
