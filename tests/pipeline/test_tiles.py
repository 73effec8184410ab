"""Large pictures in tiles, against the same network on the whole picture."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends import open_generator
from mst_deploy.backends.onnxrt import OnnxGenerator, OnnxTiles
from mst_deploy.backends.parity import sample_picture
from mst_deploy.errors import OutputError
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.canvas import still_canvas
from mst_deploy.model.zoo import resolve_model, styles_for
from mst_deploy.pipeline import map_store, still, tiles
from mst_deploy.stylizer import Stylizer


@pytest.fixture(scope="module")
def lite() -> Bundle:
    return open_bundle(resolve_model("lite"))


def test_tiles_cover_every_pixel_once_and_see_what_is_around() -> None:
    for height, width in ((2000, 3001), (768, 769), (5, 800)):
        cell = tiles.CELL
        count = np.zeros((-(-height // cell), -(-width // cell)), int)
        areas, sizes = set(), []
        for tile in tiles.tiles(height, width, 25 * cell - 2):  # 25 cells
            count[tile.kept] += 1
            areas.add(tuple(part.stop - part.start for part in tile.seen))
            sizes.append(
                tuple(
                    min(p.stop * cell, side) - p.start * cell
                    for p, side in zip(tile.seen, (height, width), strict=True)
                )
            )
            for kept, seen, side in zip(tile.kept, tile.seen, count.shape, strict=True):
                assert 0 <= seen.start <= max(0, kept.start - 25)
                assert min(side, kept.stop + 25) <= seen.stop <= side
            top, left, bottom, right = tile.window(cell // 2)
            places = np.arange(count.size).reshape(count.shape)
            seen_places = places[tile.seen].repeat(2, 0).repeat(2, 1)
            np.testing.assert_array_equal(
                seen_places[top:bottom, left:right], places[tile.kept].repeat(2, 0).repeat(2, 1)
            )
        assert (count == 1).all()
        assert len(areas) == 1
        assert len(list(groupby(sizes))) == len(set(sizes)) <= 4, "each size in pixels once"


@pytest.mark.parametrize("backend", ["onnxrt", "openvino"])
@pytest.mark.parametrize(("model", "size"), [("lite", (165, 203)), ("lite", (8, 9)), ("base", (165, 203))])
def test_tiles_are_the_whole(
    model: str, size: tuple[int, int], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd sizes, several tiles, against the network on the whole picture."""
    bundle = open_bundle(resolve_model(model))
    if backend == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setattr(tiles, "TILE", 10)
    image, canvas = sample_picture(*size, 1), still_canvas(*size)
    film = styles_for(bundle.manifest.model_id)["udnie"].film
    generator = open_generator(bundle, backend, "cpu")
    whole = generator(image[None], film[None], canvas[None])[0]
    tiling = generator.tiling()
    assert tiling is not None
    done: list[float] = []
    found = tiles.stylize_in_tiles(image, film, canvas, tiling, bundle.manifest, done.append)
    difference = np.abs(found.astype(int) - whole)
    assert difference.max() <= 1
    assert difference.mean() < 0.1
    assert done == sorted(done)
    assert done[-1] == 1


def test_too_little_around_a_tile_shows(lite: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 10)
    cut = OnnxTiles.stages
    monkeypatch.setattr(OnnxTiles, "stages", lambda self: [replace(s, radius=0) for s in cut(self)])
    image, canvas = sample_picture(160, 160, 1), still_canvas(160, 160)
    film = styles_for(lite.manifest.model_id)["udnie"].film
    generator = OnnxGenerator(lite, "cpu")
    tiling = generator.tiling()
    assert tiling is not None
    seams = tiles.stylize_in_tiles(image, film, canvas, tiling, lite.manifest)
    assert np.abs(seams.astype(int) - generator(image[None], film[None], canvas[None])[0]).max() > 3


def test_moments_of_parts_are_those_of_the_whole() -> None:
    """With a mean far above the deviation, in parts of unequal size."""
    values = 1000 + np.random.default_rng(0).normal(size=(1, 2, 9, 50)).astype(np.float32).cumsum(3) / 10
    moments = tiles.Moments()
    for part in (values[..., :7], values[..., 7:40], values[..., 40:]):
        shape = np.array(part.shape)
        moments.add(shape, part.mean((2, 3), keepdims=True), part.var((2, 3), keepdims=True))
    mean, variance = moments.total()
    np.testing.assert_allclose(mean, values.astype(float).mean((2, 3), keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(variance, values.astype(float).var((2, 3), keepdims=True), rtol=1e-4)


def test_a_disk_without_room_is_said_before_work(lite: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(OutputError, match=r"12000x9000 needs 3\.5 GB .* TMPDIR"):
        map_store.MapStore(9000, 12000, lite.manifest)


def test_large_pictures_go_in_tiles_with_everything_else_as_before(
    lite: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    image: Any = sample_picture(200, 300, 2)
    with Stylizer("lite") as stylizer:
        whole = stylizer.image(image, "udnie")
        monkeypatch.setattr(still, "WHOLE_PIXELS", 200 * 300 - 1)
        monkeypatch.setattr(tiles, "TILE", 32)
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
tiles.TILE = 80
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
