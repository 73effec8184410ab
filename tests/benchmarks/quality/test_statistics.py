"""Tests of palette, stroke and seam statistics on pictures with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mst_deploy.benchmarks.quality.statistics import (
    fringe_level,
    kept_spread,
    palette,
    seam_contrast,
    seams,
    strokes,
)
from mst_deploy.perceptual.artifacts import FRINGES


def test_palette_of_plain_colors() -> None:
    white = np.full((8, 8, 3), 255, np.uint8)
    np.testing.assert_allclose(palette(white), [100, 0, 0, 0, 0, 0], atol=0.1)
    half = white.copy()
    half[:4] = 0
    np.testing.assert_allclose(palette(half), [50, 0, 0, 50, 0, 0], atol=0.1)


def test_strokes_are_measured_by_size_and_direction() -> None:
    x = np.mgrid[0:64, 0:64][1]
    fine = np.repeat(((x % 2) * 200).astype(np.uint8)[..., None], 3, axis=2)
    coarse = np.repeat((((x // 16) % 2) * 200).astype(np.uint8)[..., None], 3, axis=2)
    noise = np.random.default_rng(0).integers(0, 200, (64, 64, 1)).astype(np.uint8).repeat(3, axis=2)
    assert strokes(fine)[0] > strokes(coarse)[0]
    assert strokes(coarse)[3] > strokes(fine)[3]
    assert strokes(coarse)[4] == pytest.approx(1, abs=1e-3)
    assert strokes(noise)[4] < 0.5
    assert strokes(np.full((64, 64, 3), 9, np.uint8))[4] == 0


def test_a_light_line_beside_an_edge_has_its_own_height_as_level() -> None:
    photograph = torch.full((1, 3, 96, 96), 0.6)
    photograph[..., :48] = 0.15
    painted = photograph.clone()
    painted[..., 48 - 1 - FRINGES[1] : 48 + 1 + FRINGES[1]] += 20 / 255  # on both sides of it
    assert fringe_level(painted, photograph) == pytest.approx(20, abs=0.1)
    assert fringe_level(1 - photograph, photograph) == pytest.approx(0, abs=1e-3)
    assert fringe_level(torch.rand(1, 3, 96, 96), torch.full((1, 3, 96, 96), 0.5)) == 0


def test_kept_spread_is_one_for_copies_and_zero_for_one_picture() -> None:
    rng = np.random.default_rng(0)
    styles = [rng.normal(size=4) * [1, 10, 100, 0] for _ in range(20)]
    assert kept_spread(styles, styles) == pytest.approx(1)
    assert kept_spread([styles[0]] * 20, styles) == pytest.approx(0, abs=1e-9)
    assert kept_spread([style / 4 for style in styles], styles) == pytest.approx(0.25)


def test_seams_are_where_neighbors_part() -> None:
    matches = np.array([[0, 1, 2, 9], [4, 5, 3, 4]])  # four patches a row: 3 and 4 lie in different rows
    np.testing.assert_array_equal(seams(matches, 4), [[False, False, True], [False, True, True]])


def test_seam_contrast_of_a_step_at_the_seam() -> None:
    image = np.full((4, 9, 3), 100, np.uint8)
    image[:, 1::2] += 2  # a step of 2 everywhere
    seam = np.zeros((4, 8), bool)
    assert seam_contrast(image, seam) == 1
    seam[:, 3] = True
    assert seam_contrast(image, seam) == pytest.approx(1, abs=0.01)
    image[:, 4:] += 40
    assert seam_contrast(image, seam) == pytest.approx(19, abs=2)  # 38 or 42 against 2
