"""Where the style encoder starts: with what can be learned before the generator is asked.

To paint in a style is to meet its Gram matrices, so an embedding is worth what it knows of them. That
is learned here by plain regression, thousands of steps in a minute; through the generator and VGG the same
minute has a hundred steps (docs/recipe.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mst_deploy.model.networks import StyleEncoder

RIDGE = 1e-2  # of the mean variance; a few hundred styles do not pin 256 directions down
ENTRIES = 1500  # of each layer's Gram matrix; a sample says nearly all, its entries go together
COORDINATES = 300
PICTURES = 128  # a step of ``pretrain_to_grams``
RATE = 1e-3
EVENNESS = 0.75  # 1 is whitening, 0 leaves the embedding as it is
LENGTH = 1000.0  # before it is scaled: only directions count, and a long vector is turned by small steps
NOISE = 0.1  # standard deviations of a summary's entries; a few thousand views are soon known by heart


@torch.no_grad()
def whiten(encoder: StyleEncoder, summaries: Tensor) -> None:
    """Set the projection to softened PCA whitening of what ``summaries`` (N, summary_size) say of styles.

    Summaries of any two pictures are nearly parallel: all lie around their mean. Scaled to one length as
    they are, all styles would start as almost the same point, and the generator would learn their
    average first. Centerd and with the variances evened out to their square roots they start apart.
    """
    if encoder.config.statistics == "moments":  # numbers of different units: colors, activations
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
def distill_film(encoder: StyleEncoder, summaries: Tensor, films: Tensor) -> None:
    """Set the film layer so that ``summaries`` (N, summary_size) give about ``films`` (N, P).

    By ridge regression on the embeddings: a generator that knows another encoder's FiLM vectors can go on
    from where it is.
    """
    embeddings = encoder.embed(summaries)  # (N, d)
    center, mean = embeddings.mean(dim=0), films.mean(dim=0)
    x, y = embeddings - center, films - mean
    products = x.T @ x
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products))
    weight = torch.linalg.solve(products, x.T @ y).T  # (P, d)
    encoder.film.weight.copy_(weight)
    encoder.film.bias.copy_(mean - weight @ center)


def gram_entries(grams: dict[str, Tensor]) -> Tensor:
    """Some entries of a picture's Gram matrices (layer -> (C, C)): (L, K) float32. Always the same ones."""
    fixed = torch.Generator().manual_seed(0)
    count = min(ENTRIES, *(matrix.numel() for matrix in grams.values()))
    rows = []
    for matrix in grams.values():
        chosen = torch.randperm(matrix.numel(), generator=fixed)[:count].to(matrix.device)
        rows.append(matrix.flatten()[chosen].float())
    return torch.stack(rows)


@dataclass(frozen=True)
class GramCoordinates:
    """What is foretold of N pictures' Gram matrices."""

    coordinates: Tensor
    """(N, q) float32: principal components of the entries; every layer counts alike."""
    weights: Tensor
    """(N,) of a squared error, so that pale styles count as much as strong ones."""


def gram_coordinates(entries: Tensor) -> GramCoordinates:
    """(N, L, K) of ``gram_entries`` -> their principal components. The same every time."""
    norms = entries.norm(dim=2)  # (N, L)
    scale = norms.mean(dim=0)
    flat = ((entries - entries.mean(dim=0)) / scale[:, None]).flatten(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, _, directions = torch.pca_lowrank(flat, q=min(COORDINATES, *flat.shape), center=False, niter=4)
    return GramCoordinates(flat @ directions, (scale / norms.clamp_min(1e-6)).square().mean(dim=1))


def pretrain_to_grams(
    encoder: StyleEncoder, summaries: Tensor, grams: GramCoordinates, steps: int, films: Tensor | None = None
) -> float:
    """Train the embedding so that Gram matrices can be read off it linearly.

    ``summaries`` (N, summary_size) and ``grams`` are of the same N pictures; the readout is thrown away. With
    ``films`` (N, P) the film layer learns those at the same time. Gives the error of the last steps.
    """
    with torch.no_grad():
        readout = fitted(encoder.embed(summaries), grams.coordinates)
    fixed = torch.Generator().manual_seed(0)  # the same start in every process and every time
    layers = [p for name, p in encoder.named_parameters() if not name.startswith(("trunk.", "film."))]
    if films is not None:
        layers += encoder.film.parameters()
    rate = RATE if films is None else RATE / 2
    groups: list[dict[str, Any]] = [{"params": layers, "lr": rate}, {"params": readout.parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    spread = summaries.std(dim=0)
    variance = 1.0 if films is None else (films - films.mean(dim=0)).square().mean()
    error = torch.zeros(())
    for _ in range(steps):
        rows = torch.randint(len(summaries), (PICTURES,), generator=fixed).to(summaries.device)
        noise = torch.randn(PICTURES, summaries.shape[1], generator=fixed).to(summaries.device)
        seen = summaries[rows] + NOISE * spread * noise
        with torch.enable_grad():
            embedding = encoder.embed(seen)
            missed = readout(embedding) - grams.coordinates[rows]
            loss = (missed.square().sum(dim=1) * grams.weights[rows]).mean()
            if films is not None:
                loss = loss + (encoder.film_of(embedding) - films[rows]).square().mean() / variance
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        error = error.to(loss) + 0.05 * (loss.detach() - error.to(loss))
    optimizer.zero_grad(set_to_none=True)
    return float(error)


def fitted(inputs: Tensor, outputs: Tensor) -> nn.Linear:
    """The linear layer that takes (N, d) to (N, q) with least squared error."""
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
    """Turn and stretch the embedding's axes so that styles spread about as much along each.

    Regression leaves variances that differ by a factor of 10^5; what a layer behind such an embedding has to
    learn along the narrow axes comes too late. Full whitening would make as much of what is mere noise.
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
