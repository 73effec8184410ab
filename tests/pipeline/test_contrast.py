"""Fades, black leader and flashes: frames without contrast are shown as they are."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends import open_generator
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.film import Style
from mst_deploy.model.zoo import resolve_model
from mst_deploy.pipeline.contrast import FLAT, FULL, contrast, stylized_opacity
from mst_deploy.pipeline.render import rendered_frames
from mst_deploy.pipeline.stages import FramePreparer
from mst_deploy.styles.plan import constant_plan
from mst_deploy.styles.resolve import resolve_style
from mst_deploy.video.info import Frame
from tests.pictures import picture


@pytest.fixture(scope="module")
def lite() -> Iterator[Any]:
    with open_generator(open_bundle(resolve_model("lite")), "onnxrt", "cpu") as generator:
        yield generator


def painted(images: list[Any], generator: Any) -> list[Any]:
    """The frames as they are shown with a real model and a real style."""
    style = resolve_style("udnie", generator.manifest)
    assert isinstance(style, Style)
    height, width = images[0].shape[:2]
    plan = constant_plan(style.film, generator.manifest)
    preparer = FramePreparer(plan, width, height, Fraction(1, 25))
    frames = [Frame(image, index, 1) for index, image in enumerate(images)]
    return [frame.image for frame in rendered_frames(frames, generator, preparer)]


def flat(level: int) -> Any:
    return np.full((64, 96, 3), level, np.uint8)


def test_frames_without_contrast_are_the_source(lite: Any) -> None:
    grain = np.random.default_rng(0).normal(0, 6, (128, 192, 3))
    leader = np.clip(8 + grain, 0, 255).astype(np.uint8)
    for image in (flat(0), flat(255), flat(128), leader):
        [found] = painted([image], lite)
        np.testing.assert_array_equal(found, image)


def test_a_fade_ends_in_black(lite: Any) -> None:
    scene = picture(96, 64, 3)
    images = [np.round(scene * (1 - step / 24)).astype(np.uint8) for step in range(25)]
    means = np.array([image.mean() for image in painted(images, lite)])
    assert means[-1] == 0
    assert means[-2] < 12
    assert np.abs(np.diff(means)).max() < 0.5 * means.max()  # it does not snap


def test_a_flash_is_white_and_its_neighbors_are_painted(lite: Any) -> None:
    scene = picture(96, 64, 3)
    calm, flashed = painted([scene, scene, scene], lite), painted([scene, flat(255), scene], lite)
    np.testing.assert_array_equal(flashed[1], flat(255))
    np.testing.assert_array_equal(flashed[0], calm[0])
    assert np.abs(flashed[0].astype(int) - scene).mean() > 10  # painted


def test_what_has_contrast_is_painted_all_over() -> None:
    """Square waves of known standard deviation: half the difference of the levels."""
    for deviation, share in ((0, 0.0), (FLAT, 0.0), ((FLAT + FULL) / 2, 0.5), (FULL, 1.0), (60, 1.0)):
        image = np.full((64, 64, 3), 100.0)
        image[:, 32:] += 2 * deviation
        image = np.round(image).astype(np.uint8)
        assert contrast(image) == pytest.approx(deviation, abs=0.01)
        assert stylized_opacity(image) == pytest.approx(share, abs=1e-3)
    assert stylized_opacity(picture(640, 360, 0)) == 1.0


def test_tiny_pictures_have_contrast_too() -> None:
    assert contrast(np.zeros((1, 1, 3), np.uint8)) == 0
    assert contrast(picture(17, 9, 0)) > FULL
