"""Histograms of activations, and the range of 8-bit integers that represents them best."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mst_deploy.onnx_passes.int8 import LEVELS, Affine

BINS = 8192  # even: one half for each sign
FIRST_LIMIT = 2.0**-10
FACTORS = np.linspace(1.0, 0.25, 76)
"""Shares of the full range that are tried."""


@dataclass
class Histogram:
    """Counts of values in equal bins over -limit..limit; the limit doubles when a larger value comes.

    Zeros are not counted: integers represent them exactly, whatever the range.
    """

    limit: float = FIRST_LIMIT
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    lowest: float = 0.0
    highest: float = 0.0

    def add(self, values: NDArray[np.float32], every: int = 1) -> None:
        """Count every n-th value; the extremes are those of all of them."""
        flat = values.reshape(-1)
        self.lowest = min(self.lowest, float(flat.min()))
        self.highest = max(self.highest, float(flat.max()))
        while max(-self.lowest, self.highest) > self.limit:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS)
            self.counts[BINS // 4 : 3 * BINS // 4] = pairs
            self.limit *= 2
        counted = flat[::every]
        counted = counted[counted != 0]
        bins = ((counted + self.limit) * (BINS / 2 / self.limit)).astype(np.int64).clip(0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of every bin, (BINS,)."""
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit, np.float64)


def best_affine(histogram: Histogram) -> Affine:
    """Return the range with the smallest squared error of rounding and clipping, among FACTORS of the full
    one."""
    candidates = [
        Affine.over(histogram.lowest * factor, histogram.highest * factor) for factor in FACTORS.tolist()
    ]
    errors = [squared_error(histogram.centers, histogram.counts, affine) for affine in candidates]
    return candidates[int(np.argmin(errors))]


def squared_error(values: NDArray[np.float64], counts: NDArray[np.float64], affine: Affine) -> float:
    """Return the expected sum of squared errors: scale^2 / 12 of rounding, and the squared distance of what
    is clipped."""
    lowest, highest = -affine.scale * affine.zero_point, affine.scale * (LEVELS - affine.zero_point)
    outside = values - values.clip(lowest, highest)
    rounding = np.where(outside == 0, affine.scale**2 / 12, 0.0)
    return float((counts * (outside**2 + rounding)).sum())
