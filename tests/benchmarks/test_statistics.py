"""Tests against SciPy and against simulated runs with known parameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mst_deploy.benchmarks.statistics import (
    Estimate,
    estimated,
    percentile,
    ratio_of_ratios,
    ratio_of_runs,
    ratio_of_turns,
    student_quantile,
    summarize,
)
from mst_deploy.errors import InvalidArgument


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 9, 30, 200])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.995])
def test_student_quantile_is_scipys(probability: float, degrees: int) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(
        stats.t.ppf(probability, degrees), rel=0.01
    )


def test_interval_of_few_values_is_the_textbooks() -> None:
    """Three values make no blocks: mean 2, deviation 1, so 2 -+ t(0.975, 2) / sqrt(3)."""
    found = estimated([1, 2, 3], 0.95)
    half = stats.t.ppf(0.975, 2) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert found.precision == pytest.approx(half / 2)


def test_equal_values_have_no_width() -> None:
    found = estimated([5.0] * 40, 0.95)
    assert (found.mean, found.low, found.high) == (5, 5, 5)


def test_slow_changes_widen_the_interval() -> None:
    """The same values, sorted into two long phases, say less about the mean than shuffled ones."""
    values = np.repeat([1.0, 1.1], 50)
    shuffled = np.random.default_rng(0).permutation(values)
    assert estimated(list(values), 0.95).precision > 2 * estimated(list(shuffled), 0.95).precision


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Independent noise around 1: 95 % of 400 intervals, give or take three standard errors."""
    rng = np.random.default_rng(1)
    held = sum(
        found.low <= 1 <= found.high
        for found in (estimated(list(rng.normal(1, 0.1, 40)), 0.95) for _ in range(400))
    )
    assert held / 400 > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_percentiles_are_numpys_where_enough_values_lie_beyond() -> None:
    values = list(np.random.default_rng(2).exponential(1, 100))
    assert summarize(values, 0.95).percentiles == {
        rank: pytest.approx(np.percentile(values, rank)) for rank in (50, 90, 95, 99)
    }
    assert percentile(values[:99], 99) is None
    assert percentile(values[:20], 95) is not None
    assert percentile(values[:19], 95) is None


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_values_are_refused(values: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="two values"):
        estimated(values, 0.95)


def test_ratio_of_turns_forgets_what_slows_both() -> None:
    """The machine gets three times slower half way; B takes 10 % longer all the time."""
    rng = np.random.default_rng(3)
    pace = np.repeat([1.0, 3.0], 20)
    a = pace * rng.normal(1, 0.02, 40)
    b = 1.1 * pace * rng.normal(1, 0.02, 40)
    found = ratio_of_turns(list(a), list(b), 0.95)
    assert found.low < 1.1 < found.high
    assert found.is_real(0.01)
    assert found.high - found.low < 0.05


def test_interval_of_the_median_is_that_of_order_statistics() -> None:
    """Of ten values the 2nd to the 9th hold the median with 97.9 % (Conover, table A3)."""
    found = ratio_of_turns([1.0] * 10, list(range(1, 11)), 0.95)
    assert (found.low, found.value, found.high) == (2, 5.5, 9)


def test_unequal_turns_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="turns"):
        ratio_of_turns([1, 2], [1], 0.95)


def test_ratio_of_ratios_is_one_for_equal_ones() -> None:
    a, b = Estimate(2, 1.9, 2.1, 0.05, 9), Estimate(4, 3.8, 4.2, 0.1, 9)
    first, second = ratio_of_runs(a, b, 0.95), ratio_of_runs(a, b, 0.95)
    both = ratio_of_ratios(first, second, 0.95)
    assert first.value == pytest.approx(2)
    assert both.value == pytest.approx(1)
    assert both.high / both.low == pytest.approx((first.high / first.low) ** np.sqrt(2))
