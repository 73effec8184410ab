"""Objective of a training step: targets, outputs, and the weighted terms of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
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
    """Targets of a batch of N samples."""

    contents: Tensor
    """(N, 3, S, S) in 0..1: the photographs to stylize."""
    style: Any
    """Style input of ``StyleNetwork.forward``."""
    features: Tensor
    """Features of the content layer, (N, C, h, w)."""
    grams: dict[str, Tensor]
    """Gram matrices by style layer, (N, C, C) each."""
    shares: Tensor
    """(N,): weight of each sample's style distance."""
    palettes: Tensor | None
    """(N, DIRECTIONS, QUANTILES) of the artworks; None if colors are not compared."""
    flat_weights: Tensor
    """(N,): smallest content weight, where the photograph is flat."""
    pixels: Tensor
    """(N, 3, S, S) in 0..1: target pixels of the samples marked in ``same``."""
    same: Tensor
    """(N,): 1 where the result should have these pixels, else 0."""


@dataclass(frozen=True)
class Outputs:
    """Results for a batch."""

    pictures: Tensor
    """(N, 3, S, S) float32 in 0..1."""
    features: Tensor
    grams: dict[str, Tensor]
    second: Tensor | None
    """(N, 3, S, S) results for the second windows; None without the temporal term."""


def loss_terms(
    outputs: Outputs, targets: Targets, shifts: Tensor, config: TrainConfig, stage: Stage
) -> dict[str, Tensor]:
    """Return the terms, unweighted means over the batch, and their weighted sum as ``total``.

    ``shifts`` (N, 2) are the offsets of the second windows, see ``temporal_loss``.
    """
    # pooling a channels-last tensor with few channels is slow on a GPU
    contents = targets.contents.contiguous()
    pictures = outputs.pictures.contiguous()
    distances = style_distance(outputs.grams, targets.grams, own_size=config.style_own_size)
    size = (targets.features.shape[2], targets.features.shape[3])
    weights_of = None if config.flat_content == 1 else contrast_weights(contents, targets.flat_weights, size)
    with torch.set_grad_enabled(config.tv_weight > 0):  # of weight 0 it is only reported
        variation = total_variation(pictures).mean()
    terms = {
        "content": content_loss(outputs.features, targets.features, weights_of).mean(),
        "style": (distances * targets.shares).mean(),
        "tv": variation,
        "halo": low_frequency_bleed_loss(pictures, contents, config.halo_cells).mean(),
        "identity": (pixel_loss(pictures, targets.pixels) * targets.same).mean(),
    }
    weights = {
        "content": config.content_weight,
        "style": stage.style_weight,
        "tv": config.tv_weight,
        "halo": config.halo_weight,
        "identity": config.identity_weight,
    }
    if config.palette_weight and targets.palettes is not None:
        shares = targets.shares * (1 - targets.same.to(targets.shares))
        terms["palette"] = (palette_distance(palette(pictures), targets.palettes) * shares).mean()
        weights["palette"] = config.palette_weight
    if config.fringe_weight:
        terms["fringe"] = edge_fringe_loss(pictures, contents).mean()
        weights["fringe"] = config.fringe_weight
    if outputs.second is not None:
        terms["temporal"] = temporal_loss(pictures, outputs.second, shifts).mean()
        weights["temporal"] = config.temporal_weight
    total = (torch.stack(list(terms.values())) * factors(tuple(weights.values()), pictures.device)).sum()
    return {**terms, "total": total}


@lru_cache(maxsize=32)
def factors(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Return the weights as a float32 tensor on the device; copied there once."""
    with torch.inference_mode(False):
        return torch.tensor(weights, device=device)
