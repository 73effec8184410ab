"""Styles and strength of live video: switched, mixed and faded by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.errors import InvalidArgument
from mst_deploy.pipeline.live_style import LiveStyle
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline


@pytest.fixture(scope="module")
def stylizer() -> Iterator[mst.Stylizer]:
    with mst.Stylizer("lite", backend="fake") as opened:
        yield opened


def live_style_of(stylizer: mst.Stylizer, *names: str, strength: float = 1.0) -> LiveStyle:
    plan = stylizer.plan(Timeline(tuple(StyleKey(name) for name in names), (StrengthKey(strength),)))
    return LiveStyle.of(plan, 100.0)


def test_a_style_is_switched_at_once_or_faded_by_the_clock(stylizer: mst.Stylizer) -> None:
    both = live_style_of(stylizer, "udnie", "zodiac")
    vectors = both.plan.film_params
    style = both.with_style("udnie", 100.0)
    np.testing.assert_array_equal(style.at(100.0).inside.film[:50], vectors["udnie"][:50])
    switched = style.with_style("zodiac", 101.0)
    np.testing.assert_array_equal(switched.at(101.0).inside.film[:50], vectors["zodiac"][:50])
    fading = style.with_style("zodiac", 101.0, fade=2.0)
    for passed, share in ((0.0, 0.0), (0.5, 0.25), (2.0, 1.0), (9.0, 1.0)):
        wanted = (1 - share) * vectors["udnie"] + share * vectors["zodiac"]
        np.testing.assert_allclose(fading.at(101.0 + passed).inside.film[:50], wanted[:50], atol=1e-5)
    # Back in the middle of a fade: from what is shown at that moment.
    back = fading.with_style("udnie", 102.0, fade=1.0)
    for passed, share in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.0)):
        wanted = (1 - share) * vectors["udnie"] + share * vectors["zodiac"]
        np.testing.assert_allclose(back.at(102.0 + passed).inside.film[:50], wanted[:50], atol=1e-5)


def test_a_strength_fades_along_with_the_style(stylizer: mst.Stylizer) -> None:
    style = live_style_of(stylizer, "udnie", "zodiac").with_style("udnie", 100.0)
    fading = style.with_style("zodiac", 100.0, fade=2.0, strength=0.5)
    assert [fading.strength(100.0 + passed) for passed in (0, 1, 2, 5)] == [1.0, 0.75, 0.5, 0.5]
    assert [fading.weights(100.0 + passed) for passed in (0, 1, 2)] == [
        {"udnie": 1.0},
        {"udnie": 0.5, "zodiac": 0.5},
        {"zodiac": 1.0},
    ]
    assert style.with_style("zodiac", 100.0, strength=0.25).strength(100.0) == 0.25


def test_a_style_is_mixed_in(stylizer: mst.Stylizer) -> None:
    style = live_style_of(stylizer, "udnie", "zodiac").with_style("udnie", 100.0)
    assert style.mixed_with("zodiac", 100.0).weights(100.0) == {"udnie": 0.5, "zodiac": 0.5}
    fading = style.mixed_with("zodiac", 100.0, fade=2.0)
    assert [fading.weights(100.0 + passed).get("zodiac", 0.0) for passed in (0, 1, 2, 9)] == [
        0,
        0.25,
        0.5,
        0.5,
    ]
    assert [fading.is_settled(100.0 + passed) for passed in (0, 1.9, 2)] == [False, False, True]


def test_an_unknown_style_is_refused(stylizer: mst.Stylizer) -> None:
    with pytest.raises(InvalidArgument, match="'zodiac' was not read before the start; known are: udnie"):
        live_style_of(stylizer, "udnie").with_style("zodiac", 0.0)


def test_a_mask_is_refused(stylizer: mst.Stylizer) -> None:
    plan = stylizer.plan("udnie")
    with pytest.raises(InvalidArgument, match="no mask"):
        LiveStyle.of(replace(plan, timeline=replace(plan.timeline, mask=Path("mask.png"))), 0.0)
