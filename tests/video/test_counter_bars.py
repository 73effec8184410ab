"""The frame counter that is read back from pictures that were stylized, scaled and coded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import resize
from mst_deploy.video.counter_bars import COUNT, draw_counter, read_counter
from tests.pictures import picture


@pytest.mark.parametrize("number", [0, 1, 255, 256, 12345, COUNT - 1])
@pytest.mark.parametrize("size", [(320, 180), (84, 32), (1280, 720), (333, 77)])
def test_what_is_drawn_is_read(number: int, size: tuple[int, int]) -> None:
    image = picture(*size, 0)
    below = image[size[1] // 4 * 2 :].copy()
    draw_counter(image, number)
    np.testing.assert_array_equal(image[size[1] // 4 * 2 :], below)
    assert read_counter(image) == number


def test_numbers_begin_again() -> None:
    image = picture(320, 180, 0)
    draw_counter(image, COUNT + 5)
    assert read_counter(image) == 5


def test_an_even_picture_has_no_counter() -> None:
    assert read_counter(np.full((180, 320, 3), 99, np.uint8)) is None


@pytest.mark.parametrize("seed", range(20))
def test_one_wrong_bit_is_noticed(seed: int) -> None:
    image = np.full((180, 320, 3), 9, np.uint8)
    draw_counter(image, 40000 + seed)
    edges = np.linspace(0, 320, 22).round().astype(int)
    column = 1 + seed
    image[:90, edges[column] : edges[column + 1]] = 255 - image[:90, edges[column] : edges[column + 1]]
    assert read_counter(image) is None


@pytest.mark.parametrize("number", [7, 0b1010101010101010])
def test_it_survives_a_darker_noisier_smaller_and_coarsely_coded_picture(number: int) -> None:
    image = picture(640, 360, 3)
    draw_counter(image, number)
    rng = np.random.default_rng(0)
    dark = (60 + 0.2 * image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)
    small = resize(dark, 160, 90)
    _, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 20])
    assert read_counter(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)) == number
    assert read_counter(255 - image) == number, "a style may turn light and dark around"


def test_it_survives_stylizing() -> None:
    with mst.Stylizer("lite") as stylizer:
        for number, style in ((999, "udnie"), (43690, "starry-night")):
            image = picture(320, 180, 0)
            draw_counter(image, number)
            assert read_counter(stylizer.image(image, style)) == number


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no room for the counter; give at least 84x32"):
        draw_counter(np.zeros((20, 20, 3), np.uint8), 0)
    assert read_counter(np.zeros((4, 4, 3), np.uint8)) is None
