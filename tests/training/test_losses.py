"""Losses against hand-made truths."""

from __future__ import annotations

import pytest
import torch

from mst_deploy.training.losses import content_loss, pixel_loss, temporal_loss, total_variation


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
