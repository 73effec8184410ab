"""Statistics of repeated timings.

Consecutive timings are not independent: the processor's clock, its caches and other programs change slowly.
The interval of a mean is therefore taken from the means of blocks (the method of batch means; Law,
*Simulation Modeling and Analysis*, chapter 9) wherever that is the wider one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mst_deploy.errors import InvalidArgument

BLOCKS = 10
"""Number of blocks of consecutive times whose means give the interval, if each holds two times or more."""
RANKS = (50, 90, 95, 99)


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    error: float
    """Standard error of the mean."""
    degrees: int
    """Degrees of freedom of the error."""

    @property
    def precision(self) -> float:
        """Half the width of the interval as a share of the mean."""
        return (self.high - self.low) / 2 / self.mean


@dataclass(frozen=True)
class Summary:
    """Statistics of the times of one item, in seconds."""

    count: int
    estimate: Estimate
    percentiles: dict[int, float | None]
    """Percentiles by rank; None if there are too few times to have one beyond it."""
    least: float

    @property
    def median(self) -> float:
        """Median in seconds."""
        return float(self.percentiles[50] or math.nan)


def summarize(seconds: Sequence[float], confidence: float) -> Summary:
    """Return percentiles, mean and interval of times in seconds. Raises InvalidArgument for fewer than
    two."""
    estimate = estimated(seconds, confidence)
    ranks = {rank: percentile(seconds, rank) for rank in RANKS}
    return Summary(len(seconds), estimate, ranks, min(seconds))


def estimated(values: Sequence[float], confidence: float) -> Estimate:
    """Return the mean and its interval by Student's t.

    Raises InvalidArgument for fewer than two values, or a confidence outside 0..1.
    """
    if len(values) < 2:
        raise InvalidArgument(f"an interval needs two values at least, got {len(values)}")
    if not 0 < confidence < 1:
        raise InvalidArgument(f"a confidence lies between 0 and 1, got {confidence}")
    mean, error, degrees = float(np.mean(values)), 0.0, 0
    half = -1.0
    for groups in {len(values), min(BLOCKS, len(values) // 2)} - {0, 1}:
        standard_error = _standard_error(values, groups)
        width = student_quantile((1 + confidence) / 2, groups - 1) * standard_error
        if width > half:
            half, error, degrees = width, standard_error, groups - 1
    return Estimate(mean, mean - half, mean + half, error, degrees)


def percentile(values: Sequence[float], rank: int) -> float | None:
    """Return the value below which ``rank`` per cent lie; None if not even one value lies above it."""
    if len(values) * (100 - rank) < 100:
        return None
    return float(np.percentile(values, rank))


def student_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution for a probability of 0.5 or more.

    Exact for one and two degrees of freedom, then the expansion of Abramowitz and Stegun 26.7.5, which is
    within one per cent from three degrees on for probabilities up to 0.995.
    """
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        a = 2 * probability - 1
        return a * math.sqrt(2 / (1 - a * a))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))


@dataclass(frozen=True)
class Ratio:
    """Ratio of two times with its interval: 1.1 is ten per cent longer."""

    value: float
    low: float
    high: float

    def is_real(self, smallest: float = 0.0) -> bool:
        """Return whether the interval excludes 1 and the ratio differs from 1 by at least ``smallest``."""
        return not self.low <= 1 <= self.high and abs(self.value - 1) >= smallest


def ratio_of_runs(a: Estimate, b: Estimate, confidence: float) -> Ratio:
    """Return b / a of two separate runs: logarithms of the means, errors added in squares (Welch)."""
    errors = [one.error / one.mean for one in (a, b)]
    error = math.hypot(*errors)
    degrees = _welch_degrees(errors, [a.degrees, b.degrees])
    return _spread(math.log(b.mean / a.mean), error, degrees, confidence)


def ratio_of_turns(a: Sequence[float], b: Sequence[float], confidence: float) -> Ratio:
    """Return b / a of two interleaved items: the median of the ratios, round by round.

    Disturbances of a whole round cancel out. The interval is that of a median (order statistics, Conover,
    *Practical Nonparametric Statistics*, 3.2), which single outliers do not affect. Raises InvalidArgument
    for lists of different length.
    """
    if len(a) != len(b):
        raise InvalidArgument(f"turns must be the same for both, got {len(a)} and {len(b)}")
    ratios = np.sort(np.asarray(b) / np.asarray(a))
    skipped = _skipped(len(ratios), confidence)
    return Ratio(float(np.median(ratios)), float(ratios[skipped]), float(ratios[-1 - skipped]))


def ratio_of_ratios(first: Ratio, second: Ratio, confidence: float) -> Ratio:
    """Return second / first, each with an interval of ``confidence``: widths on a log scale added in
    squares."""
    middle = math.log(second.value / first.value)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    error = math.hypot(*(math.log(one.high / one.low) / 2 for one in (first, second))) / z
    return Ratio(math.exp(middle), math.exp(middle - z * error), math.exp(middle + z * error))


def _standard_error(values: Sequence[float], groups: int) -> float:
    means = [float(np.mean(block)) for block in np.array_split(np.asarray(values), groups)]
    return float(np.std(means, ddof=1)) / math.sqrt(groups)


def _welch_degrees(errors: Sequence[float], degrees: Sequence[int]) -> int:
    """Return the degrees of freedom of Welch and Satterthwaite; the smaller of the two if there is no
    error at all."""
    below = sum(error**4 / count for error, count in zip(errors, degrees, strict=True))
    if below == 0:
        return min(degrees)
    return max(1, int(sum(error**2 for error in errors) ** 2 / below))


def _spread(middle: float, error: float, degrees: int, confidence: float) -> Ratio:
    half = student_quantile((1 + confidence) / 2, degrees) * error
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _skipped(count: int, confidence: float) -> int:
    """Return how many sorted values lie outside the interval of their median, at each end."""
    tail, skipped = 0.0, 0
    for index in range(count // 2):
        tail += math.comb(count, index) / 2**count
        if 2 * tail > 1 - confidence:
            break
        skipped = index + 1
    return max(0, skipped - 1) if skipped else 0
