"""Systems compared where one of their two figures is equal: what is the other one there?

A system with a strength has a curve, not a point: from the source itself (no content lost, no style) to its
full style. Between measured strengths the curve is taken as straight. Such curves sag (each step of
style costs more content than the one before), so a chord lies above what is really reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Point:
    """One strength of one system on one pair or clip."""

    cost: float
    """What rises with the strength: content distance, or warping error."""
    style: float
    """Style distance, which falls."""


def style_at(curve: Sequence[Point], cost: float) -> float:
    """The least style distance on the curve that costs no more than ``cost``.

    ``curve`` goes from no style to the full one, its first point the source itself. Raises ValueError if even
    that one costs more.
    """
    if curve[0].cost > cost:
        raise ValueError(f"the curve begins at a cost of {curve[0].cost}, above {cost}")
    found = [point.style for point in curve if point.cost <= cost]
    for low, high in pairwise(curve):
        if (low.cost - cost) * (high.cost - cost) < 0:
            share = (cost - low.cost) / (high.cost - low.cost)
            found.append(low.style + share * (high.style - low.style))
    return min(found)


def cost_at(curve: Sequence[Point], style: float) -> float | None:
    """The least cost at which the curve comes down to ``style``; None if it never does."""
    found = [point.cost for point in curve if point.style <= style]
    for low, high in pairwise(curve):
        if (low.style - style) * (high.style - style) < 0:
            share = (style - low.style) / (high.style - low.style)
            found.append(low.cost + share * (high.cost - low.cost))
    return min(found) if found else None


@dataclass(frozen=True)
class Comparison:
    """One system's curves against another's points or curves, pair by pair."""

    pairs: int
    won: int
    """Pairs in which ours has less style distance at no more content distance."""
    ours: float
    """Mean style distance there."""
    theirs: float


def compare(curves: Sequence[Sequence[Point]], points: Sequence[Point]) -> Comparison:
    """At the content distance of each point. One curve for every point, in the same order."""
    return counted([(style_at(curve, p.cost), p.style) for curve, p in zip(curves, points, strict=True)])


def compare_turned_down(ours: Sequence[Sequence[Point]], theirs: Sequence[Sequence[Point]]) -> Comparison:
    """Both turned down to the content distance of the one that loses less of it at its full style.

    One curve of each for every pair, from the weakest to the full strength, without the source itself. Pairs
    in which that distance is below the weakest strength of either are left out: nothing was measured there.
    """
    found = []
    for our, their in zip(ours, theirs, strict=True):
        cost = min(our[-1].cost, their[-1].cost)
        if cost >= max(our[0].cost, their[0].cost):
            found.append((style_at(our, cost), style_at(their, cost)))
    return counted(found)


def counted(styles: Sequence[tuple[float, float]]) -> Comparison:
    """Pairs of style distances, ours and theirs, as a comparison; its means are NaN where there are none."""
    if not styles:
        return Comparison(0, 0, float("nan"), float("nan"))
    ours, theirs = np.array(styles).T
    return Comparison(len(styles), int((ours < theirs).sum()), float(ours.mean()), float(theirs.mean()))
