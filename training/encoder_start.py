"""Where the style encoder starts: apart from zero knowledge, it should at least tell styles apart."""

from __future__ import annotations

import torch
from torch import Tensor

from mst_deploy.networks import StyleEncoder

RIDGE = 1e-2  # of the mean variance; a few hundred styles do not pin 256 directions down


@torch.no_grad()
def whiten(encoder: StyleEncoder, summaries: Tensor) -> None:
    """Set the projection to softened PCA whitening of what ``summaries`` (N, summary_size) say of styles.

    Summaries of any two pictures are nearly parallel: all lie around their mean. Scaled to one length as
    they are, all styles would start as almost the same point, and the generator would learn their
    average first. Centred and with the variances evened out to their square roots they start apart.
    """
    if encoder.config.statistics == "moments":  # numbers of different units: colours, activations
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
def imitate(encoder: StyleEncoder, summaries: Tensor, films: Tensor) -> None:
    """Set the film layer so that ``summaries`` (N, summary_size) give about ``films`` (N, P).

    By ridge regression on the embeddings: a generator that knows another encoder's film rows can go on
    from where it is.
    """
    embeddings = encoder.embed(summaries)  # (N, d)
    centre, mean = embeddings.mean(dim=0), films.mean(dim=0)
    x, y = embeddings - centre, films - mean
    products = x.T @ x
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products))
    weight = torch.linalg.solve(products, x.T @ y).T  # (P, d)
    encoder.film.weight.copy_(weight)
    encoder.film.bias.copy_(mean - weight @ centre)
