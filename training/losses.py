"""Training losses as pure functions. Features are (N, C, H, W) from the normalized VGG-19.

Johnson et al. 2016 (arXiv 1603.08155) section 3. The style loss is ``perceptual.style_distance``, with two
deviations: it is relative to the size of the target's Gram matrix, so that dark and vivid paintings have
equal weight, and layers are averaged instead of summed, so that the style weight does not depend on their
number.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

CONTRAST = 0.04  # standard deviation of lightness in 0..1 from which on a cell has full content weight
CELL = 8  # pixels; side of a cell
DIRECTIONS, QUANTILES = 16, 64  # directions and quantiles of the palette


def content_loss(features: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared difference per image: (N, C, H, W) twice, optional weights (N, 1, H, W) ->
    (N,)."""
    squares = (features.float() - target.float()).square()
    return (squares if weights is None else squares * weights).mean(dim=(1, 2, 3))


def contrast_weights(contents: Tensor, least: Tensor, size: tuple[int, int]) -> Tensor:
    """Return content weights: (N, 3, H, W) in 0..1, ``least`` (N,) -> (N, 1, h, w) in ``least``..1.

    The standard deviation of lightness in cells of CELL pixels relative to CONTRAST, smoothed over 3 x 3
    cells.
    """
    light = contents.float().mean(dim=1, keepdim=True)
    variance = F.avg_pool2d(light.square(), CELL) - F.avg_pool2d(light, CELL).square()
    weights = (variance.clamp_min(0).sqrt() / CONTRAST).clamp_max(1)
    weights = torch.maximum(weights, least.to(weights)[:, None, None, None])
    weights = F.avg_pool2d(F.pad(weights, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return F.interpolate(weights, size, mode="bilinear", align_corners=False)


def palette(images: Tensor) -> Tensor:
    """Return quantiles of the colors along fixed directions: (N, 3, H, W) in 0..1 -> (N, DIRECTIONS,
    QUANTILES).

    Colors are means of 2 x 2 pixels; the directions are spread evenly over half of the sphere (a Fibonacci
    lattice), so their quantiles describe the whole distribution, rare colors included.
    """
    colors = F.avg_pool2d(images.float(), 2).flatten(2)  # (N, 3, P)
    ordered = (palette_directions(images.device) @ colors).sort(dim=2).values  # (N, D, P)
    per_quantile = -(-ordered.shape[2] // QUANTILES)
    if ordered.shape[2] % QUANTILES:
        ordered = F.interpolate(ordered, size=QUANTILES * per_quantile, mode="nearest")
    return ordered.reshape(*ordered.shape[:2], QUANTILES, per_quantile).mean(dim=3)


@lru_cache(maxsize=4)
def palette_directions(device: torch.device) -> Tensor:
    """Return the directions of the palette, (DIRECTIONS, 3) float32; computed once per device."""
    with torch.inference_mode(False):  # autograd cannot use a tensor made in inference mode
        steps = torch.arange(DIRECTIONS, device=device, dtype=torch.float32) + 0.5
        height, angle = steps / DIRECTIONS, steps * (torch.pi * (3 - 5**0.5))
        radius = (1 - height.square()).sqrt()
        return torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=1)


def palette_distance(palettes: Tensor, targets: Tensor) -> Tensor:
    """Return the squared sliced Wasserstein distance: palettes (N, D, Q) twice -> (N,).

    Bonneel et al. 2015 (J. Math. Imaging Vis. 51) use it for colors, Heitz et al. 2021 (CVPR) for textures.
    """
    return (palettes - targets).square().mean(dim=(1, 2))


def total_variation(images: Tensor) -> Tensor:
    """Return the mean squared difference of vertical and horizontal neighbors: (N, 3, H, W) -> (N,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().mean(dim=(1, 2, 3))
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean(dim=(1, 2, 3))
    return down + right


def pixel_loss(images: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of pixels in 0..1: (N, 3, H, W) twice -> (N,)."""
    return (images.float() - target.float()).square().mean(dim=(1, 2, 3))


def temporal_loss(first: Tensor, second: Tensor, shifts: Tensor) -> Tensor:
    """Return the mean squared flicker -> (N,): what moved with the picture should look the same in both
    results.

    ``first`` and ``second`` (N, 3, H, W) are results for two windows into one picture; window two lies
    ``shifts`` (N, 2) = (down, right) pixels further and has other noise. Compared where the windows overlap.
    Needs no video: the optical flow of a still picture is known.
    """
    count, channels, height, width = first.shape
    moved = shifts.to(first.device, non_blocking=True)
    rows = torch.arange(height, device=first.device) - moved[:, :1]  # (N, H): where the second window has it
    columns = torch.arange(width, device=first.device) - moved[:, 1:]
    seen = _within(rows, height)[:, :, None] & _within(columns, width)[:, None]  # (N, H, W)
    places = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
    places = places.view(count, 1, -1).expand(-1, channels, -1)
    matched = second.float().flatten(2).gather(2, places).view_as(first)
    squares = (first.float() - matched).square() * seen[:, None]
    return squares.sum(dim=(1, 2, 3)) / (channels * seen.sum(dim=(1, 2)))


def _within(places: Tensor, size: int) -> Tensor:
    """Return whether each index lies in 0..size - 1."""
    return (places >= 0) & (places < size)
