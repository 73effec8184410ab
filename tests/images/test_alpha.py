"""Filling in of transparent parts, and masks, in bands of rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mst_deploy.images import alpha as alpha_module
from mst_deploy.images import masked
from mst_deploy.images.alpha import fill_transparent, row_bands
from tests.pictures import picture


def test_bands_cover_all_rows_in_pairs() -> None:
    for height, width in ((1, 1), (7, 2**20), (1001, 2000)):
        bands = list(row_bands(height, width))
        assert [row for band in bands for row in range(band.start, band.stop)] == list(range(height))
        assert all(band.start % 2 == 0 for band in bands)


@pytest.mark.parametrize("size", [(61, 45), (64, 32), (1, 9), (33, 1)])
def test_bands_do_not_show(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = size
    image = picture(max(width, 8), max(height, 8), 3)[:height, :width]
    rng = np.random.default_rng(0)
    for share in (0.0, 0.002, 0.3, 0.99):
        alpha = (rng.random(size) < share).astype(np.uint8) * 200
        monkeypatch.setattr(alpha_module, "BAND", 2**19)
        whole, mixed = fill_transparent(image, alpha), masked(image, 255 - image, alpha)
        monkeypatch.setattr(alpha_module, "BAND", 1)
        np.testing.assert_array_equal(fill_transparent(image, alpha), whole)
        np.testing.assert_array_equal(masked(image, 255 - image, alpha), mixed)


def test_memory_is_a_few_times_that_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps in float32 of the whole picture would take five times as much."""
    monkeypatch.setattr(alpha_module, "BAND", 2**14)
    image, alpha = np.zeros((600, 800, 3), np.uint8), np.zeros((600, 800), np.uint8)
    alpha[:200] = 255
    tracemalloc.start()
    try:
        fill_transparent(image, alpha)
        masked(image, image, alpha)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * image.nbytes
