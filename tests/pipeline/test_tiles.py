"""Large pictures in tiles, against the same network on the whole picture."""

from __future__ import annotations

from pathlib import Path
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
def test_memory_is_bounded(tmp_path: Path) -> None:
    """9 megapixels with the larger model, in a process of its own; the picture as a whole takes 3.3 GB."""
    import subprocess
    import sys

    code = """
import resource
import numpy as np
import mst_deploy as mst
from mst_deploy.pipeline import still
still.WHOLE_PIXELS = 2**22
with mst.Stylizer() as stylizer:
    image = np.random.default_rng(0).integers(0, 256, (25, 36, 3), np.uint8).repeat(100, 0).repeat(100, 1)
    assert stylizer.image(image, "udnie").shape == (2500, 3600, 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_600_000  # KiB
