"""Formulas of the evaluation, as pure functions.

Gram and content distance are those of ``mst_deploy.perceptual.distances``. Nothing here reads a file or runs
a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mst_deploy.errors import InvalidArgument

Floats = NDArray[np.float64]

INFINITY_START = 5000
"""Smallest number of results for the extrapolated FID: the smallest sample it fits (Wright & Ommer 2022)."""
INFINITY_POINTS = 15
ROWS_AT_ONCE = 1024  # rows of a self-similarity matrix: 64 MiB at 512x512


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def frechet_distance(mean_a: Floats, cov_a: Floats, mean_b: Floats, cov_b: Floats) -> float:
    """Return the squared Frechet distance of two Gaussians (d,), (d, d): |m-n|^2 + tr(A + B - 2 (AB)^(1/2)).

    Heusel et al. 2017 (arXiv 1706.08500). The trace of the root is taken over the eigenvalues of the
    symmetric A^(1/2) B A^(1/2), which has those of AB: nothing becomes complex, and rank-deficient
    covariances need no offset.
    """
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ cov_b @ root)
    trace = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(mixed.clip(min=0)).sum()
    return float(np.square(mean_a - mean_b).sum() + trace)


def frechet_of(features_a: Floats, features_b: Floats) -> float:
    """Return the Frechet distance of Gaussians fitted to features (n, d) and (m, d); biased high for small n,
    m.

    Raises InvalidArgument for fewer than two rows.
    """
    if min(len(features_a), len(features_b)) < 2:
        raise InvalidArgument("a covariance needs at least two pictures")
    a, b = (np.asarray(features, np.float64) for features in (features_a, features_b))
    return frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))


def frechet_infinity(
    features_a: Floats, features_b: Floats, *, start: int = INFINITY_START, seed: int = 0
) -> float:
    """Extrapolate the Frechet distance to infinitely many pictures (Chong & Forsyth 2020, arXiv 1911.07023).

    Fits a line over 1/n to the distances of 15 sample sizes from ``start`` to n and returns its value at 0.
    Samples are the same rows of both sets (n, d), drawn as by ArtFID's authors, but with a seed. Raises
    InvalidArgument for fewer than ``start`` rows, or sets of different length.
    """
    count = len(features_a)
    if count != len(features_b):
        raise InvalidArgument(f"{count} results but {len(features_b)} artworks; the sets must be paired")
    if count < start:
        raise InvalidArgument(
            f"the extrapolated distance needs {start} results at least, found {count}; use the plain one "
            "and say how many there were"
        )
    rng = np.random.default_rng(seed)
    sizes = np.linspace(start, count, INFINITY_POINTS).astype(int)
    distances = []
    for size in sizes:
        rows = rng.permutation(count)[:size]
        distances.append(frechet_of(features_a[rows], features_b[rows]))
    if sizes[0] == sizes[-1]:
        return float(np.mean(distances))
    return float(np.polyfit(1 / sizes, distances, 1)[1])


def artfid(content_distance: float, fid: float) -> float:
    """Return (1 + LPIPS) (1 + FID): Wright & Ommer 2022 (arXiv 2207.12280), equation 3."""
    return (1 + content_distance) * (1 + fid)


def cfsd(content: Tensor, stylized: Tensor) -> float:
    """Return the content feature structural distance of two feature maps (1, C, h, w) of VGG-19's relu3_1.

    Sum over positions of KL(P || Q), where row i of P and Q is the softmax of position i's similarity to all
    positions, in the photograph and the result: Chung et al. 2024 (StyleID, arXiv 2312.09008). As there,
    features are divided by C before the products; the figure depends on their scale, so only figures of the
    same weights are comparable. 0 for equal maps. Memory: ROWS_AT_ONCE rows.
    """
    channels = content.shape[1]
    a, b = (features.float().flatten(2)[0].T / channels for features in (content, stylized))  # (h*w, C)
    total = 0.0
    for rows_a, rows_b in zip(torch.split(a, ROWS_AT_ONCE), torch.split(b, ROWS_AT_ONCE), strict=True):
        wanted = F.log_softmax(rows_a @ a.T, dim=1)
        found = F.log_softmax(rows_b @ b.T, dim=1)
        total += float(F.kl_div(found, wanted, reduction="sum", log_target=True))
    return total


def covariance(features: Tensor) -> Tensor:
    """Return centered Gram matrices: (N, C, H, W) -> (N, C, C) float32, channel covariances over
    positions."""
    flat = features.float().flatten(2)
    centered = flat - flat.mean(dim=2, keepdim=True)
    return torch.bmm(centered, centered.transpose(1, 2)) / flat.shape[2]


def bootstrap_interval(values: Sequence[float], *, draws: int = 2000, seed: int = 0) -> Interval:
    """Return the mean with its 95 % percentile interval over ``draws`` resamples of the values (Efron
    1979)."""
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, len(array), (draws, len(array)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(array.mean()), float(low), float(high))
