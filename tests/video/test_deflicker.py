"""Tests of averaging along the motion with known answers: noise, pans, cuts, uncovered parts."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from mst_deploy.video import deflicker
from mst_deploy.video.deflicker import (
    ANALYSIS_SIDE,
    CONTRAST_FLOOR,
    PAINT_SCALE,
    REACH,
    Deflicker,
    enlarged,
    squared_distance,
    with_contrast_of,
)

NOISE = 6.0  # standard deviation of what is painted differently each time
COUNT = REACH + 4


def texture(height: int, width: int, seed: int = 0) -> Any:
    """Soft blobs in the middle of the scale, so that noise is not clipped."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + 30 * soft / soft.std(), 40, 215).astype(np.uint8)


def noisy(picture: Any, rng: Any, noise: float = NOISE) -> Any:
    return np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).round().astype(np.uint8)


def pan(step: int, height: int = 96, width: int = 128) -> list[Any]:
    """The picture moves ``step`` pixels to the left in every frame."""
    whole = texture(height, width + step * COUNT)
    return [np.ascontiguousarray(whole[:, step * i : step * i + width]) for i in range(COUNT)]


def inner(picture: Any) -> Any:
    """Without the border, over which a pan brings in what was never seen."""
    return picture[16:-16, 16:-48].astype(np.float64)


def weight(noise: float) -> float:
    """Of an earlier picture: with noise of variance v in each channel, two are 6 v apart, squared."""
    return float(np.exp(-6 * noise**2 / 255**2 / PAINT_SCALE**2))


def share_left(noise: float, past: Any) -> Any:
    """Of the standard deviation, in a mean of weights 1, w, .., w."""
    w = weight(noise)
    return np.sqrt(1 + past * w**2) / (1 + past * w)


@pytest.fixture
def _contrast_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflicker, "CONTRAST_FLOOR", 1e9)


@pytest.mark.usefixtures("_contrast_is_let_go")
@pytest.mark.parametrize("step", [0, 3])
def test_noise_falls_as_that_of_a_weighted_mean_does(step: int) -> None:
    """At a standstill and in a pan."""
    deflicker_filter, rng = Deflicker(), np.random.default_rng(1)
    left = [
        np.std(inner(deflicker_filter(frame, [noisy(frame, rng)])[0]) - inner(frame)) / NOISE
        for frame in pan(step)
    ]
    np.testing.assert_allclose(left, share_left(NOISE, np.minimum(np.arange(COUNT), REACH)), rtol=0.06)


@pytest.mark.usefixtures("_contrast_is_let_go")
def test_flicker_falls_faster() -> None:
    """In the difference of two neighbors pictures weigh 1, w - 1, 0, .., 0, -w over the sum of weights."""
    deflicker_filter, rng, w = Deflicker(), np.random.default_rng(2), weight(NOISE)
    shown = [deflicker_filter(frame, [noisy(frame, rng)])[0].astype(np.float64) for frame in pan(0)]
    expected = np.sqrt(1 + (1 - w) ** 2 + w**2) / (1 + REACH * w)
    assert np.std(shown[-1] - shown[-2]) / NOISE == pytest.approx(expected, rel=0.06)
    assert expected < 0.25 * np.sqrt(2)  # a quarter of what two pictures differ by


def test_strokes_keep_their_contrast_where_they_do_not_follow_the_picture() -> None:
    """Strong strokes at other places each time: averaged they would lose half of their contrast."""
    strokes, deflicker_filter, rng = 20.0, Deflicker(), np.random.default_rng(8)
    gray, frame = np.full((96, 128, 3), 128, np.uint8), texture(96, 128)
    left = share_left(strokes, REACH)
    gain = np.sqrt((3 * strokes**2 + CONTRAST_FLOOR) / (3 * (left * strokes) ** 2 + CONTRAST_FLOOR))
    shown = [deflicker_filter(frame, [noisy(gray, rng, strokes)])[0].astype(np.float64) for _ in range(COUNT)]
    assert left < 0.55
    assert np.std(shown[-1]) / strokes == pytest.approx(left * gain, rel=0.06)
    assert np.std(shown[-1] - shown[-2]) < 0.8 * np.sqrt(2) * strokes


def test_contrast_is_never_taken() -> None:
    """The average keeps what it has, also where the painting has less; a painting by itself is left alone."""
    painting = texture(48, 64)
    np.testing.assert_array_equal(with_contrast_of(painting, painting.astype(np.float32)), painting)
    flat = np.full_like(painting, 128)
    np.testing.assert_array_equal(with_contrast_of(flat, painting.astype(np.float32)), painting)


def test_what_does_not_change_stays_as_it_is() -> None:
    deflicker_filter, frame, painted = Deflicker(), texture(48, 64), texture(48, 64, seed=5)
    for _ in range(COUNT):
        (shown,) = deflicker_filter(frame, [painted])
        np.testing.assert_array_equal(shown, painted)


def test_after_a_cut_nothing_of_the_scene_before_is_left() -> None:
    deflicker_filter = Deflicker()
    for frame in pan(2):
        deflicker_filter(frame, [frame])
    other = texture(96, 128, seed=9)
    (shown,) = deflicker_filter(other, [other])
    assert (np.abs(shown.astype(int) - other) <= 1).mean() > 0.99


def test_no_ghosting_where_something_went_away() -> None:
    """A red square runs over a texture: neither where it was nor where it is does the other shine through."""
    deflicker_filter, background = Deflicker(), texture(96, 160)
    for index in range(COUNT):
        frame = background.copy()
        frame[30:60, 10 + 12 * index : 40 + 12 * index] = (230, 30, 60)
        (shown,) = deflicker_filter(frame, [frame])
        difference = np.abs(shown.astype(int) - frame).max(axis=2)
        assert (difference <= 8).mean() > 0.99
        assert difference.mean() < 1


def test_paint_that_changed_is_not_averaged_with_what_it_was() -> None:
    """The scene stands still and the style changes: the new one is seen at once."""
    deflicker_filter, frame = Deflicker(), texture(48, 64)
    for _ in range(COUNT):
        deflicker_filter(frame, [np.full_like(frame, 60)])
    (shown,) = deflicker_filter(frame, [np.full_like(frame, 180)])
    np.testing.assert_array_equal(shown, 180)


def test_a_frame_depends_on_those_in_reach_and_no_others() -> None:
    """This is what lets a job go on in the middle of a film."""
    rng = np.random.default_rng(3)
    frames = [(frame, noisy(frame, rng)) for frame in pan(2)]
    whole, late = Deflicker(), Deflicker()
    expected = [whole(frame, [painted])[0] for frame, painted in frames]
    found = [late(frame, [painted])[0] for frame, painted in frames[-REACH - 1 :]]
    np.testing.assert_array_equal(found[-1], expected[-1])
    assert (found[0] != expected[-REACH - 1]).any()


def test_every_picture_of_a_frame_is_averaged_with_its_own() -> None:
    """A style inside of a mask and one outside."""
    rng = np.random.default_rng(4)
    both, one, other = Deflicker(), Deflicker(), Deflicker()
    for frame in pan(1):
        inside, background_style = noisy(frame, rng), noisy(255 - frame, rng)
        found = both(frame, [inside, background_style])
        np.testing.assert_array_equal(found[0], one(frame, [inside])[0])
        np.testing.assert_array_equal(found[1], other(frame, [background_style])[0])


def test_the_past_is_forgotten_where_pictures_change_in_number_or_size() -> None:
    deflicker_filter, rng = Deflicker(), np.random.default_rng(6)
    frame, small = texture(48, 64), texture(24, 32)
    for pictures in ([frame], [], [frame, frame], [frame]):
        first = [noisy(picture, rng) for picture in pictures]
        for shown, painted in zip(deflicker_filter(frame, first), first, strict=True):
            np.testing.assert_array_equal(shown, painted)
    painted = noisy(small, rng)
    np.testing.assert_array_equal(deflicker_filter(small, [painted])[0], painted)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (11, 40), (16, 16), (16, 2000)])
def test_any_size(height: int, width: int) -> None:
    deflicker_filter, frame = Deflicker(), texture(height, width)
    for _ in range(3):
        np.testing.assert_array_equal(deflicker_filter(frame, [frame])[0], frame)


@pytest.mark.usefixtures("_contrast_is_let_go")
def test_frames_larger_than_the_size_of_the_analysis() -> None:
    """A pan over twice the size: motion is seen at half of it, noise falls as in a small one."""
    deflicker_filter, rng = Deflicker(), np.random.default_rng(7)
    for frame in pan(4, 2 * ANALYSIS_SIDE, 2 * ANALYSIS_SIDE):
        (shown,) = deflicker_filter(frame, [noisy(frame, rng)])
    left = np.std(inner(shown) - inner(frame)) / NOISE
    assert left == pytest.approx(share_left(NOISE, REACH), rel=0.06)


def test_flow_grows_with_the_picture() -> None:
    flow = np.full((10, 20, 2), (1.5, -2.0), np.float32)
    larger = enlarged(flow, np.zeros((30, 40, 3), np.uint8))
    assert larger.shape == (30, 40, 2)
    np.testing.assert_allclose(larger, np.broadcast_to((3.0, -6.0), (30, 40, 2)))


def test_squared_distance_is_that_of_colors() -> None:
    """Two channels off by 51 of 255: 0.2² + 0.2², at the size and at half of it."""
    one = np.full((24, 32, 3), 100, np.uint8)
    other = one + np.array([51, 0, 51], np.uint8)
    for like in (one, one[::2, ::2]):
        found = squared_distance(one, other, like)
        assert found.shape == like.shape[:2]
        np.testing.assert_allclose(found, 0.08, rtol=1e-5)
