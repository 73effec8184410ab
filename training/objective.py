"""What a step is after, and how far its results are from it: the terms of the loss, put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mst_deploy.perceptual.artifacts import edge_fringe_loss, low_frequency_bleed_loss
from mst_deploy.perceptual.distances import style_distance
from mst_deploy.training.config import Stage, TrainConfig
from mst_deploy.training.losses import (
    content_loss,
    contrast_weights,
    palette,
    palette_distance,
    pixel_loss,
    temporal_loss,
    total_variation,
)


@dataclass(frozen=True)
class Targets:
    """What the results for a batch of N samples are compared with."""

    contents: Tensor
    """(N, 3, S, S) in 0..1: what is stylized."""
    style: Any
    """What ``Stylizer.forward`` takes for it."""
    features: Tensor
    """Of the content layer: (N, C, h, w)."""
    grams: dict[str, Tensor]
    """Style layer -> (N, C, C)."""
    shares: Tensor
    """(N,): what each sample's style distance counts for."""
    palettes: Tensor | None
    """(N, DIRECTIONS, QUANTILES) of the artworks; None where colors are not compared."""
    flat_weights: Tensor
    """(N,): least weight of the content where the photograph is flat."""
    pixels: Tensor
    """(N, 3, S, S) in 0..1."""
    same: Tensor
    """(N,): 1 where the result is to have these pixels, else 0."""


@dataclass(frozen=True)
class Outputs:
    """The results for a batch."""

    pictures: Tensor
    """(N, 3, S, S) float32 in 0..1."""
    features: Tensor
    grams: dict[str, Tensor]
    second: Tensor | None
    """Results for the second windows, (N, 3, S, S), with the temporal term."""


def loss_terms(
    found: Outputs, wanted: Targets, shifts: Tensor, config: TrainConfig, stage: Stage
) -> dict[str, Tensor]:
    """The terms, unweighted means over the batch, and their weighted sum as ``total``.

    ``shifts`` (N, 2) say where the second windows lie, see ``temporal_loss``.
    """
    contents = wanted.contents.contiguous()  # pooling few channels that come last is slow on a GPU
    pictures = found.pictures.contiguous()
    distances = style_distance(found.grams, wanted.grams, own_size=config.style_own_size)
    size = (wanted.features.shape[2], wanted.features.shape[3])
    weights_of = None if config.flat_content == 1 else contrast_weights(contents, wanted.flat_weights, size)
    terms = {
        "content": content_loss(found.features, wanted.features, weights_of).mean(),
        "style": (distances * wanted.shares).mean(),
        "tv": total_variation(pictures).mean(),
        "halo": low_frequency_bleed_loss(pictures, contents, config.halo_cells).mean(),
        "identity": (pixel_loss(pictures, wanted.pixels) * wanted.same).mean(),
    }
    weights = {
        "content": config.content_weight,
        "style": stage.style_weight,
        "tv": config.tv_weight,
        "halo": config.halo_weight,
        "identity": config.identity_weight,
    }
    if config.palette_weight and wanted.palettes is not None:
        shares = wanted.shares * (1 - wanted.same.to(wanted.shares))
        terms["palette"] = (palette_distance(palette(pictures), wanted.palettes) * shares).mean()
        weights["palette"] = config.palette_weight
    if config.fringe_weight:
        terms["fringe"] = edge_fringe_loss(pictures, contents).mean()
        weights["fringe"] = config.fringe_weight
    if found.second is not None:
        terms["temporal"] = temporal_loss(pictures, found.second, shifts).mean()
        weights["temporal"] = config.temporal_weight
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return {**terms, "total": total}
