"""Initialization of the style encoder: what can be learned without the generator.

Stylizing means matching the Gram matrices of a style, so an embedding is useful if it predicts them. This is
learned here by plain regression, thousands of steps in a minute; through the generator and VGG the same
minute has a hundred steps (docs/recipe.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mst_deploy.model.networks import StyleEncoder

RIDGE = 1e-2  # relative to the mean variance; a few hundred styles do not determine 256 directions
# entries of each layer's Gram matrix; they are so correlated that a sample holds nearly all information
ENTRIES = 1500
COORDINATES = 300
PICTURES = 128  # pictures in a step of ``pretrain_to_grams``
RATE = 1e-3
EVENNESS = 0.75  # 1 is whitening, 0 leaves the embedding unchanged
# length before normalization: only directions matter, and a long vector is rotated by small steps
LENGTH = 1000.0
NOISE = 0.1  # standard deviations of a summary's entries; a few thousand views are soon overfitted without it


@torch.no_grad()
def whiten(encoder: StyleEncoder, summaries: Tensor) -> None:
    """Set the projection to softened PCA whitening of the summaries (N, summary_size) of styles.

    Summaries of any two pictures are nearly parallel: all lie around their mean. Normalized as they are, all
    styles would start as almost the same point, and the generator would learn their average first. Centered,
    and with the variances reduced to their square roots, they start apart.
    """
    if encoder.config.statistics == "moments":  # values of different units: colors, activations
        encoder.centre.copy_(summaries.mean(dim=0))
        encoder.spread.copy_(summaries.std(dim=0).clamp_min(1e-4))
        summaries = (summaries - encoder.centre) / encoder.spread
    mean = summaries.mean(dim=0)
    _, singular, directions = torch.linalg.svd(summaries - mean, full_matrices=False)
    size = min(encoder.config.embedding_size, len(singular))
    spread = singular[:size] / len(summaries) ** 0.5  # standard deviation along each axis
    axes = directions[:size] / (spread.clamp_min(spread[0] * 1e-2) ** 0.5)[:, None]
    encoder.project.weight.zero_()
    encoder.project.weight[:size] = axes
    encoder.project.bias.zero_()
    encoder.project.bias[:size] = -axes @ mean


@torch.no_grad()
def distill_film(encoder: StyleEncoder, summaries: Tensor, film_params: Tensor) -> None:
    """Set the film layer so that ``summaries`` (N, summary_size) approximately give ``film_params`` (N, P).

    By ridge regression on the embeddings: a generator trained with another encoder's FiLM vectors can be
    trained on from there.
    """
    embeddings = encoder.embed(summaries)  # (N, d)
    center, mean = embeddings.mean(dim=0), film_params.mean(dim=0)
    x, y = embeddings - center, film_params - mean
    products = x.T @ x
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products))
    weight = torch.linalg.solve(products, x.T @ y).T  # (P, d)
    encoder.film.weight.copy_(weight)
    encoder.film.bias.copy_(mean - weight @ center)


def gram_entries(grams: dict[str, Tensor]) -> Tensor:
    """Return a fixed sample of the entries of a picture's Gram matrices (layer -> (C, C)): (L, K) float32."""
    fixed = torch.Generator().manual_seed(0)
    count = min(ENTRIES, *(matrix.numel() for matrix in grams.values()))
    rows = []
    for matrix in grams.values():
        chosen = torch.randperm(matrix.numel(), generator=fixed)[:count].to(matrix.device)
        rows.append(matrix.flatten()[chosen].float())
    return torch.stack(rows)


@dataclass(frozen=True)
class GramCoordinates:
    """Regression targets computed from N pictures' Gram matrices."""

    coordinates: Tensor
    """(N, q) float32: principal components of the entries; every layer has the same weight."""
    weights: Tensor
    """(N,) weights of the squared errors, so that pale styles count as much as strong ones."""


def gram_coordinates(entries: Tensor) -> GramCoordinates:
    """Return the principal components of ``gram_entries`` (N, L, K); deterministic."""
    norms = entries.norm(dim=2)  # (N, L)
    scale = norms.mean(dim=0)
    flat = ((entries - entries.mean(dim=0)) / scale[:, None]).flatten(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, _, directions = torch.pca_lowrank(flat, q=min(COORDINATES, *flat.shape), center=False, niter=4)
    return GramCoordinates(flat @ directions, (scale / norms.clamp_min(1e-6)).square().mean(dim=1))


def pretrain_to_grams(
    encoder: StyleEncoder,
    summaries: Tensor,
    grams: GramCoordinates,
    steps: int,
    film_params: Tensor | None = None,
) -> float:
    """Train the embedding so that Gram matrices can be predicted from it linearly; return the final error.

    ``summaries`` (N, summary_size) and ``grams`` are of the same N pictures; the readout is discarded. With
    ``film_params`` (N, P) the film layer is trained on those at the same time.
    """
    with torch.no_grad():
        readout = fitted(encoder.embed(summaries), grams.coordinates)
    fixed = torch.Generator().manual_seed(0)  # the same initial state in every process and every run
    layers = [p for name, p in encoder.named_parameters() if not name.startswith(("trunk.", "film."))]
    if film_params is not None:
        layers += encoder.film.parameters()
    rate = RATE if film_params is None else RATE / 2
    groups: list[dict[str, Any]] = [{"params": layers, "lr": rate}, {"params": readout.parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    spread = summaries.std(dim=0)
    variance = 1.0 if film_params is None else (film_params - film_params.mean(dim=0)).square().mean()
    error = torch.zeros(())
    for _ in range(steps):
        rows = torch.randint(len(summaries), (PICTURES,), generator=fixed).to(summaries.device)
        noise = torch.randn(PICTURES, summaries.shape[1], generator=fixed).to(summaries.device)
        seen = summaries[rows] + NOISE * spread * noise
        with torch.enable_grad():
            embedding = encoder.embed(seen)
            missed = readout(embedding) - grams.coordinates[rows]
            loss = (missed.square().sum(dim=1) * grams.weights[rows]).mean()
            if film_params is not None:
                loss = loss + (encoder.film_of(embedding) - film_params[rows]).square().mean() / variance
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        error = error.to(loss) + 0.05 * (loss.detach() - error.to(loss))
    optimizer.zero_grad(set_to_none=True)
    return float(error)


def fitted(inputs: Tensor, outputs: Tensor) -> nn.Linear:
    """Return the linear layer from (N, d) to (N, q) with least squared error."""
    layer = nn.Linear(inputs.shape[1], outputs.shape[1]).to(inputs.device)
    ones = torch.ones(len(inputs), 1, device=inputs.device)
    solution = torch.linalg.lstsq(
        torch.cat([inputs, ones], dim=1).double(), outputs.double(), driver="gelsd"
    ).solution
    layer.weight.copy_(solution[:-1].T)
    layer.bias.copy_(solution[-1])
    return layer


@torch.no_grad()
def equalize_spectrum(encoder: StyleEncoder, summaries: Tensor) -> None:
    """Rotate and scale the embedding's axes so that styles vary about as much along each.

    Regression leaves variances that differ by a factor of 10^5; a layer behind such an embedding learns along
    the narrow axes too slowly. Full whitening would amplify mere noise to the same size.
    """
    before = encoder.unscaled(summaries)  # (N, d)
    mean = before.mean(dim=0)
    variances, axes = torch.linalg.eigh(torch.cov((before - mean).T))
    stretch = variances.clamp_min(variances[-1] * 1e-4) ** (-EVENNESS / 2)
    turn = axes @ torch.diag(stretch) @ axes.T
    turn *= LENGTH / ((before - mean) @ turn).norm(dim=1).mean()
    encoder.project.weight.copy_(turn @ encoder.project.weight)
    encoder.project.bias.copy_(turn @ (encoder.project.bias - mean))
    if encoder.config.hidden_size:
        encoder.correct.weight.copy_(turn @ encoder.correct.weight)
