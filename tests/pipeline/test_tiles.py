"""Large pictures in tiles, against the same network on the whole picture."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends.onnxrt import OnnxGenerator
from mst_deploy.backends.parity import sample_picture
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.canvas import still_canvas
from mst_deploy.model.zoo import resolve_model, styles_for
from mst_deploy.pipeline import still, tiles
from mst_deploy.stylizer import Stylizer


@pytest.fixture(scope="module")
def lite() -> Bundle:
    return open_bundle(resolve_model("lite"))


def test_tiles_cover_every_pixel_once_and_see_what_is_around() -> None:
    for height, width in ((2000, 3001), (768, 769), (5, 800)):
        count = np.zeros((height, width), int)
        for tile in tiles.tiles(height, width, 100):
            count[tile.kept] += 1
            for kept, seen, side in zip(tile.kept, tile.seen, (height, width), strict=True):
                assert seen.start == max(0, kept.start - 100)
                assert seen.stop == min(side, kept.stop + 100)
                assert seen.start % tiles.STEP == 0
            places = np.arange(height * width).reshape(height, width)
            np.testing.assert_array_equal(places[tile.seen][tile.inside], places[tile.kept])
        assert (count == 1).all()


def test_with_the_statistics_of_the_whole_tiles_are_the_whole(
    lite: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd sizes, tiles of two widths; the sample is the picture itself, so nothing is estimated."""
    monkeypatch.setattr(tiles, "TILE", 256)
    image, canvas = sample_picture(301, 405, 1), still_canvas(301, 405)
    film = styles_for(lite.manifest.model_id)["udnie"].film
    generator = OnnxGenerator(lite, "cpu")
    whole = generator(image[None], film[None], canvas[None])[0]
    tiling = generator.tiling()
    assert tiling is not None
    found = tiles.stylize_in_tiles(image, film, canvas, tiling, lite.manifest)
    difference = np.abs(found.astype(int) - whole)
    assert difference.max() <= 1
    assert difference.mean() < 0.01
    monkeypatch.setattr(tiles, "overlap_of", lambda manifest: 16)  # too little shows
    seams = tiles.stylize_in_tiles(image, film, canvas, tiling, lite.manifest)
    assert np.abs(seams.astype(int) - whole).max() > 3


def test_a_sample_stands_for_a_large_picture() -> None:
    """Means of a picture's thirds, where the middle one differs; every crop at its own place."""
    image = np.zeros((3000, 2000, 3), np.uint8)
    image[1000:2000] = 90
    found = tiles.sample(image)
    assert found.shape == (1272, 1272, 3)
    assert found.mean() == 30
    assert tiles.sample(image[:1000, :1000]).shape == (1000, 1000, 3)
    assert tiles.sample(image[:100]).shape == (100, 2000, 3)
    long = np.zeros((100, 40_000, 3), np.uint8)
    assert tiles.sample(long).shape[1] == 1272
    assert tiles.sample(long).shape[0] <= 100


def test_large_pictures_go_in_tiles_with_everything_else_as_before(
    lite: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    image: Any = sample_picture(200, 300, 2)
    with Stylizer("lite") as stylizer:
        whole = stylizer.image(image, "udnie")
        monkeypatch.setattr(still, "WHOLE_PIXELS", 200 * 300 - 1)
        monkeypatch.setattr(tiles, "TILE", 128)
        found = stylizer.image(image, "udnie")
    assert np.abs(found.astype(int) - whole).max() <= 1


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    """In a process of its own: what a long picture takes in tiles, against the same picture as a whole."""
    code = """
import numpy as np
import mst_deploy as mst
from mst_deploy.benchmarks.environment import peak_memory
from mst_deploy.pipeline import still, tiles
tiles.CROP_SIZE = 128
image = np.random.default_rng(0).integers(0, 256, (3, 60, 3), np.uint8).repeat(100, 0).repeat(100, 1)
with mst.Stylizer("lite") as stylizer:
    before = peak_memory()
    for still.WHOLE_PIXELS in (0, image.size):
        assert stylizer.image(image, "udnie").shape == image.shape
        print(peak_memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    in_tiles, whole = (float(line) for line in done.stdout.split())
    assert in_tiles < 0.75 * whole
