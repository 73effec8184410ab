"""The training losses as pure functions. Features are (N, C, H, W) from the normalised VGG-19.

Johnson et al. 2016 (arXiv 1603.08155) section 3, with two deviations: the style loss is relative to
the size of the target's Gram matrix, so that dark and vivid paintings pull equally hard, and layers
are averaged instead of summed, so that the style weight does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, C): channel products averaged over positions, float32."""
    flat = features.flatten(2)  # (N, C, H*W)
    # In bfloat16 the product accumulates in float32; dividing first keeps float16 in range.
    scaled = flat / flat.shape[2] ** 0.5
    return torch.bmm(scaled, scaled.transpose(1, 2)).float()


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference per image: (N, C, H, W) twice -> (N,)."""
    return (features.float() - target.float()).square().mean(dim=(1, 2, 3))


def style_loss(grams: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Mean over layers of ||G - T||^2 / ||T||^2 (Frobenius): layers of (N, C, C) -> (N,)."""
    layers = []
    for name, target in targets.items():
        wanted = target.float()
        distance = (grams[name] - wanted).square().sum(dim=(1, 2))
        layers.append(distance / wanted.square().sum(dim=(1, 2)).clamp_min(1e-8))
    return torch.stack(layers).mean(dim=0)


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of vertical and horizontal neighbours: (N, 3, H, W) -> (N,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().mean(dim=(1, 2, 3))
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean(dim=(1, 2, 3))
    return down + right


def pixel_loss(images: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of pixels in 0..1: (N, 3, H, W) twice -> (N,)."""
    return (images.float() - target.float()).square().mean(dim=(1, 2, 3))
