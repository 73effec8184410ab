"""The measures of large stills, on pictures with a seam that was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mst_deploy.benchmarks.stills import border_ratio, borders, compared, make_still, seam_step, table
from mst_deploy.pipeline.tiles import tiles
from tests.pictures import picture


def test_borders_are_those_of_the_tiles() -> None:
    height, width = 1100, 2000
    assert borders(height) == sorted({tile.kept[0].start * 8 for tile in tiles(height, width, 40)} - {0})
    assert borders(width) == sorted({tile.kept[1].start * 8 for tile in tiles(height, width, 40)} - {0})
    assert borders(500) == []


def test_a_tile_that_is_a_level_brighter_is_a_seam_of_one_level() -> None:
    reference = cv2.resize(picture(40, 40, 1), (1100, 1100), interpolation=cv2.INTER_CUBIC) // 2
    found = reference.copy()
    (top, bottom), (left, right) = borders(1100), borders(1100)
    assert compared(found, reference) == {"psnr_db": 100.0, "largest_difference": 0, "seam_step": 0.0}
    found[top:bottom, left:right] += 1
    assert seam_step(found, reference) == pytest.approx(1)
    share = (bottom - top) * (right - left) / 1100**2
    assert compared(found, reference) == {
        "psnr_db": round(10 * np.log10(255**2 / share), 1),
        "largest_difference": 1,
        "seam_step": 1.0,
    }


def test_differences_across_borders_are_those_elsewhere_unless_there_are_seams() -> None:
    noise = np.random.default_rng(0).integers(100, 110, (1100, 1100, 3), np.uint8)
    assert border_ratio(noise) == pytest.approx(1, abs=0.02)
    noise[: borders(1100)[0]] += 20
    noise[borders(1100)[1] :] += 40
    noise[:, : borders(1100)[0]] += 20
    noise[:, borders(1100)[1] :] += 40
    assert border_ratio(noise) > 4


def test_stills_have_the_size_and_both_halves(tmp_path: Path) -> None:
    for name, level in (("a", 50), ("b", 200)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((20, 30, 3), level, np.uint8))
    still = make_still(sorted(tmp_path.glob("*.png")), 0.06)
    assert still.shape == (200, 300, 3)
    assert (still[:, :150] == 50).all()
    assert (still[:, 150:] == 200).all()


def test_table_says_what_was_compared() -> None:
    row: dict[str, Any] = {
        "model": "lite",
        "backend": "auto",
        "chosen": "openvino",
        "megapixels": 12.0,
        "seconds": 41.2,
        "processor_seconds": 60.0,
        "load": 0.05,
        "peak_mib": 1450,
        "border_ratio": 1.0,
        "reference": "",
    }
    against = {"psnr_db": 65.0, "largest_difference": 1, "seam_step": 0.036}
    whole = {"reference": "whole", "whole_seconds": 30.0, "whole_peak_mib": 2826}
    lines = table([row, row | against | whole, row | against | {"reference": "tiles"}]).splitlines()[2:]
    assert lines[0] == "| `lite`, auto (openvino) | 12 | 60 | 41 | 1,450 | - | - | - | - | 1.000 |"
    assert "| the whole (2,826 MiB) | 65.0 | 1 | 0.036 |" in lines[1]
    assert "| other tiles | 65.0 | 1 | 0.036 |" in lines[2]
    assert "| 60 | - | 1,450 |" in table([row | {"load": 0.5}])
