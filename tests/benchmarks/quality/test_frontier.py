"""Tests of comparisons at equal cost and at equal style, on curves with known answers."""

from __future__ import annotations

import pytest

from mst_deploy.benchmarks.quality.frontier import (
    Comparison,
    Point,
    compare,
    compare_turned_down,
    cost_at,
    style_at,
)

CURVE = [Point(0.0, 4.0), Point(0.2, 2.0), Point(0.6, 1.0)]


@pytest.mark.parametrize(
    ("cost", "style"), [(0.0, 4.0), (0.1, 3.0), (0.2, 2.0), (0.4, 1.5), (0.6, 1.0), (9.0, 1.0)]
)
def test_style_at_equal_cost(cost: float, style: float) -> None:
    assert style_at(CURVE, cost) == pytest.approx(style)


@pytest.mark.parametrize(("style", "cost"), [(4.0, 0.0), (3.0, 0.1), (1.5, 0.4), (1.0, 0.6), (0.9, None)])
def test_cost_at_equal_style(style: float, cost: float | None) -> None:
    assert cost_at(CURVE, style) == (None if cost is None else pytest.approx(cost))


def test_a_strength_that_only_costs_is_not_taken() -> None:
    wasteful = [*CURVE, Point(0.8, 1.2)]
    assert style_at(wasteful, 0.8) == 1.0
    assert cost_at(wasteful, 1.2) == pytest.approx(0.52)


def test_a_cost_below_the_source_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="begins at a cost"):
        style_at(CURVE, -0.1)


def test_pairs_are_counted_where_the_curve_is_strictly_lower() -> None:
    points = [Point(0.4, 1.6), Point(0.4, 1.5), Point(0.4, 1.4)]
    assert compare([CURVE] * 3, points) == Comparison(3, 1, pytest.approx(1.5), pytest.approx(1.5))  # type: ignore[arg-type]


def test_both_are_turned_down_to_what_the_tamer_one_loses() -> None:
    """Theirs goes on to 0.9; at 0.6, where ours ends, it has 1.2, between 1.4 and 0.8."""
    theirs = [Point(0.3, 2.0), Point(0.5, 1.4), Point(0.8, 0.8), Point(0.9, 0.75)]
    found = compare_turned_down([CURVE], [theirs])
    assert found == Comparison(1, 1, pytest.approx(1.0), pytest.approx(1.2))  # type: ignore[arg-type]
    other_way = compare_turned_down([theirs], [CURVE])
    assert (other_way.won, other_way.ours, other_way.theirs) == (0, found.theirs, found.ours)


def test_where_nothing_was_measured_nothing_is_compared() -> None:
    """Theirs begins where ours has ended; so does the comparison of points, but not of curves."""
    beyond = [Point(0.7, 0.9), Point(0.9, 0.5)]
    found = compare_turned_down([CURVE, CURVE], [beyond, CURVE])
    assert found == Comparison(1, 0, 1.0, 1.0)
    assert compare_turned_down([CURVE], [beyond]).pairs == 0
