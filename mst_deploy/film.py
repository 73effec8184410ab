"""FiLM parameters as numbers: their layout, mixing, and the style file that carries one row.

A film row is a float32 vector of length P: gamma then beta of every conditioned layer, in the order
in which a frame meets the layers. Styles mix by mixing rows. This module needs NumPy only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import BundleError, InvalidArgument

Film = NDArray[np.float32]
"""(P,) float32."""


@dataclass(frozen=True)
class FilmLayout:
    """Names and channel counts of the conditioned layers."""

    layers: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """P: one gamma and one beta for every channel of every layer."""
        return 2 * sum(channels for _, channels in self.layers)

    def identity(self) -> Film:
        """The row with gamma = 1 and beta = 0 everywhere: plain instance normalisation."""
        parts = [
            np.concatenate([np.ones(channels), np.zeros(channels)]) for _, channels in self.layers
        ]
        return np.concatenate(parts).astype(np.float32)


def blend(rows: list[Film], weights: list[float]) -> Film:
    """Weighted sum of rows (weights should sum to 1) -> (P,) float32.

    Raises InvalidArgument if the lists are empty or of different length, or the rows differ in size.
    """
    if not rows or len(rows) != len(weights):
        raise InvalidArgument(f"cannot blend {len(rows)} styles with {len(weights)} weights")
    sizes = {row.shape for row in rows}
    if len(sizes) > 1:
        raise InvalidArgument(f"cannot blend film rows of different shapes: {sorted(sizes)}")
    return np.tensordot(np.asarray(weights, np.float32), np.stack(rows), axes=1).astype(np.float32)


def with_strength(content: Film, style: Film, strength: float) -> Film:
    """Interpolate from the content's own film row (0: keep the picture) to the style's (1).

    Raises InvalidArgument outside 0..1.
    """
    if not 0.0 <= strength <= 1.0:
        raise InvalidArgument(f"strength must be between 0 and 1, got {strength}")
    return style if strength == 1.0 else blend([content, style], [1.0 - strength, strength])
