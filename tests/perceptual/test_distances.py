"""Tests of Gram and content distances against values by hand."""

from __future__ import annotations

import pytest
import torch

from mst_deploy.perceptual.distances import content_distance, gram, style_distance


def test_gram_of_two_channels() -> None:
    features = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])[None]  # (1, 2, 1, 2)
    torch.testing.assert_close(gram(features), torch.tensor([[[2.5, 5.5], [5.5, 12.5]]]))


def test_gram_does_not_depend_on_the_size_of_the_map() -> None:
    features = torch.rand(1, 5, 6, 6)
    torch.testing.assert_close(gram(features), gram(features.repeat(1, 1, 3, 2)))


def test_style_distance_is_relative() -> None:
    """Twice the target is at distance 1, the target itself at 0, whatever the scale."""
    target = {"a": torch.rand(1, 4, 4), "b": 100 * torch.rand(1, 4, 4)}
    double = {name: 2 * value for name, value in target.items()}
    assert style_distance(target, target).item() == 0
    assert style_distance(double, target).item() == pytest.approx(1.0)


def test_style_distance_by_the_mean_size_of_the_batch() -> None:
    """Of targets of squared sizes 1 and 9, mean 5, both missed by 1."""
    targets = {"a": torch.tensor([[[1.0]], [[3.0]]])}
    found = {"a": torch.tensor([[[2.0]], [[4.0]]])}
    torch.testing.assert_close(style_distance(found, targets), torch.tensor([1.0, 1 / 9]))
    torch.testing.assert_close(style_distance(found, targets, own_size=False), torch.tensor([0.2, 0.2]))


def test_gram_of_a_constant_map_is_the_product_of_its_constants() -> None:
    constants = torch.tensor([2.0, -3.0, 0.5])
    features = constants[None, :, None, None].expand(1, 3, 5, 7)
    torch.testing.assert_close(gram(features)[0], torch.outer(constants, constants))


def test_content_distance_is_relative_and_per_image() -> None:
    """The target itself is at 0, nothing at 1, three times the target at 4."""
    target = torch.rand(3, 5, 4, 4) + 0.1
    found = content_distance(target * torch.tensor([1.0, 0.0, 3.0])[:, None, None, None], target)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 4.0]))
