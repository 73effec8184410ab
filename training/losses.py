"""The training losses as pure functions. Features are (N, C, H, W) from the normalised VGG-19.

Johnson et al. 2016 (arXiv 1603.08155) section 3. The style loss is ``perceptual.style_distance``, with two
deviations: it is relative to the size of the target's Gram matrix, so that dark and vivid paintings pull
equally hard, and layers are averaged instead of summed, so that the style weight does not depend on
their number.
"""

from __future__ import annotations

import torch
from torch import Tensor


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference per image: (N, C, H, W) twice -> (N,)."""
    return (features.float() - target.float()).square().mean(dim=(1, 2, 3))


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of vertical and horizontal neighbours: (N, 3, H, W) -> (N,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().mean(dim=(1, 2, 3))
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean(dim=(1, 2, 3))
    return down + right


def pixel_loss(images: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of pixels in 0..1: (N, 3, H, W) twice -> (N,)."""
    return (images.float() - target.float()).square().mean(dim=(1, 2, 3))


def temporal_loss(first: Tensor, second: Tensor, shifts: Tensor) -> Tensor:
    """Mean squared flicker: what moved with the picture should look the same in both results.

    ``first`` and ``second`` (N, 3, H, W) are results for two windows into one picture; window two lies
    ``shifts`` (N, 2) = (down, right) pixels further and saw other noise. Compared where both windows
    look -> (N,). Needs no video: the "frame difference" of a still picture is known.
    """
    height, width = first.shape[2:]
    losses = []
    for one, two, (down, right) in zip(first.float(), second.float(), shifts.tolist(), strict=True):
        seen_first = one[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
        seen_second = two[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        losses.append((seen_first - seen_second).square().mean())
    return torch.stack(losses)
