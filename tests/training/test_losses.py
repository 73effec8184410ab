"""Losses against hand-made truths."""

from __future__ import annotations

import math

import pytest
import torch

from mst_deploy.halos import HALO_RANGE, halo_loss
from mst_deploy.training.losses import (
    content_loss,
    pixel_loss,
    temporal_loss,
    total_variation,
)


def test_total_variation_of_a_checkerboard_is_two() -> None:
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = ((x + y) % 2).float().expand(1, 3, 8, 8)
    assert total_variation(board).tolist() == [2.0]
    assert total_variation(torch.full((1, 3, 8, 8), 0.7)).tolist() == [0.0]


def test_losses_are_per_image() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[1] = 0.5
    assert content_loss(a, b).tolist() == [0.0, 0.25]
    assert pixel_loss(a, b).tolist() == [0.0, 0.25]


def test_equal_images_are_at_distance_zero() -> None:
    image = torch.rand(2, 3, 9, 9)
    for loss in (content_loss, pixel_loss):
        assert loss(image, image).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shift", [(0, 0), (2, 3), (-2, 1), (1, -3), (-1, -2)])
def test_temporal_loss_is_zero_for_windows_into_one_picture(shift: tuple[int, int]) -> None:
    wide = torch.rand(1, 3, 20, 20)
    down, right = shift
    first = wide[:, :, 4:16, 4:16]
    second = wide[:, :, 4 + down : 16 + down, 4 + right : 16 + right]
    assert temporal_loss(first, second, torch.tensor([shift])).tolist() == [0.0]


def test_temporal_loss_is_the_mean_square_where_both_look() -> None:
    first = torch.zeros(2, 3, 4, 4)
    second = torch.zeros(2, 3, 4, 4)
    second[0] += 0.5
    second[1, :, 3] = 1.0  # window two lies one row lower, so window one never saw this row
    assert temporal_loss(first, second, torch.tensor([[0, 0], [1, 0]])).tolist() == [0.25, 0.0]


def test_halo_loss_of_one_step_by_hand() -> None:
    """Two cells of 8 that differ by 0.5: one pair across, none down, and none of 16."""
    result = torch.zeros(1, 3, 8, 16)
    result[..., 8:] = 0.5
    plain = torch.full((1, 3, 8, 16), 0.4)
    assert halo_loss(result, plain).tolist() == pytest.approx([0.25])
    spanning = plain.clone()
    spanning[0, 1, 3, 12] += HALO_RANGE  # one channel of one pixel is enough to be less flat
    assert halo_loss(result, spanning).tolist() == pytest.approx([0.25 / math.e], rel=1e-4)


def test_a_seam_along_an_edge_is_seen_and_strokes_and_edges_are_not() -> None:
    """A sky of 64 rows over ground of 32: what counts is a slow change within the sky."""
    content = torch.zeros(1, 3, 96, 96)
    content[:, :, :64] = 0.8
    seam = content.clone()
    seam[:, :, 32:64] += 0.1 * torch.linspace(0, 1, 32)[None, None, :, None]
    fine = content + 0.1 * (torch.arange(96) % 4 - 1.5).sign()[None, None, None]  # strokes 4 pixels wide
    other = 1 - 2 * content  # another palette: the edge stays where it was
    seen = halo_loss(seam, content).item()
    assert seen > 1e-4
    for harmless in (content, fine, other):
        assert halo_loss(harmless, content).item() < 1e-3 * seen
    assert halo_loss(torch.zeros(2, 3, 7, 7), torch.zeros(2, 3, 7, 7)).tolist() == [0.0, 0.0]
