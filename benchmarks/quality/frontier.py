"""Comparison of systems at an equal value of one of two figures.

A system with a strength has a curve, not a point: from the source itself (no content lost, no style) to its
full style. The curve is interpolated linearly between measured strengths. Such curves are convex (each step
of style costs more content than the one before), so a chord lies above the true curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Point:
    """Figures of one strength of one system on one pair or clip."""

    cost: float
    """Figure that rises with the strength: content distance, or warping error."""
    style: float
    """Style distance, which falls with the strength."""


def style_at(curve: Sequence[Point], cost: float) -> float:
    """Return the smallest style distance on the curve at a cost of at most ``cost``.

    ``curve`` goes from no style to the full one; its first point is the source itself. Raises ValueError if
    even that point costs more.
    """
    if curve[0].cost > cost:
        raise ValueError(f"the curve begins at a cost of {curve[0].cost}, above {cost}")
    values = [point.style for point in curve if point.cost <= cost]
    for low, high in pairwise(curve):
        if (low.cost - cost) * (high.cost - cost) < 0:
            share = (cost - low.cost) / (high.cost - low.cost)
            values.append(low.style + share * (high.style - low.style))
    return min(values)


def cost_at(curve: Sequence[Point], style: float) -> float | None:
    """Return the smallest cost at which the curve reaches ``style``; None if it never does."""
    values = [point.cost for point in curve if point.style <= style]
    for low, high in pairwise(curve):
        if (low.style - style) * (high.style - style) < 0:
            share = (style - low.style) / (high.style - low.style)
            values.append(low.cost + share * (high.cost - low.cost))
    return min(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """Result of comparing one system's curves with another's points or curves, pair by pair."""

    pairs: int
    won: int
    """Number of pairs in which our system has less style distance at no more content distance."""
    ours: float
    """Mean style distance of our system at that content distance."""
    theirs: float


def compare(curves: Sequence[Sequence[Point]], points: Sequence[Point]) -> Comparison:
    """Compare at the content distance of each point; ``curves`` holds one curve per point, in the same
    order."""
    return counted([(style_at(curve, p.cost), p.style) for curve, p in zip(curves, points, strict=True)])


def compare_turned_down(ours: Sequence[Sequence[Point]], theirs: Sequence[Sequence[Point]]) -> Comparison:
    """Compare both at the content distance of the system that loses less content at its full style.

    Each argument has one curve per pair, from the weakest to the full strength, without the source itself.
    Pairs in which that distance is below the weakest strength of either are skipped: nothing was measured
    there.
    """
    values = []
    for our, their in zip(ours, theirs, strict=True):
        cost = min(our[-1].cost, their[-1].cost)
        if cost >= max(our[0].cost, their[0].cost):
            values.append((style_at(our, cost), style_at(their, cost)))
    return counted(values)


def counted(styles: Sequence[tuple[float, float]]) -> Comparison:
    """Return the comparison of pairs of style distances (ours, theirs); its means are NaN without pairs."""
    if not styles:
        return Comparison(0, 0, float("nan"), float("nan"))
    ours, theirs = np.array(styles).T
    return Comparison(len(styles), int((ours < theirs).sum()), float(ours.mean()), float(theirs.mean()))
