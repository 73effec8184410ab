"""Statistics of typical faults: styles averaged in one network, lines along edges, seams of patch matching.

Pictures are (H, W, 3) uint8 RGB unless stated otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mst_deploy.images import Image
from mst_deploy.perceptual.artifacts import fringes

Vector = NDArray[np.float64]

PALETTE = ("L mean", "a mean", "b mean", "L spread", "a spread", "b spread")
STROKES = ("1 px", "2 px", "4 px", "8 px", "direction")


def palette(image: Image) -> Vector:
    """Return mean and standard deviation of CIELAB's L, a, b (L 0..100): (6,) float64."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    return np.concatenate([lab.mean(axis=0), lab.std(axis=0)]).astype(np.float64)


def strokes(image: Image) -> Vector:
    """Return log10 of the energy of four octaves of lightness detail, and its directedness (0..1): (5,)
    float64.

    Octaves are levels of the Laplacian pyramid (Burt & Adelson 1983); the last number is the mean coherence
    of the structure tensor: 1 where neighboring gradients have the same direction, 0 where they do not.
    """
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    energies: list[float] = []
    level: NDArray[Any] = light
    for _ in range(4):
        smaller = cv2.pyrDown(level)
        detail = level - cv2.pyrUp(smaller, dstsize=(level.shape[1], level.shape[0]))
        energies.append(math.log10(float(np.square(detail).mean()) + 1e-8))
        level = smaller
    dx, dy = cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1)
    xx, yy, xy = (cv2.GaussianBlur(product, (0, 0), 3) for product in (dx * dx, dy * dy, dx * dy))
    total = (xx + yy).sum()
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2).sum() / total if total > 0 else 0.0
    return np.array([*energies, coherence], np.float64)


def fringe_level(result: Tensor, photograph: Tensor) -> float:
    """Return the root mean square of ``artifacts.fringes`` of pictures (1, 3, H, W) in 0..1, in gray levels
    of 255.

    0 if no edge of the photograph has a flat area beside it.
    """
    sizes, weights = fringes(result, photograph)
    weight = weights.sum()
    return 255 * float(((weights * sizes.square()).sum() / weight).sqrt()) if weight > 0 else 0.0


def kept_spread(outputs: Sequence[Vector], styles: Sequence[Vector]) -> float:
    """Return the share of the differences between styles that the results for one photograph retain: 1 all, 0
    none.

    Root of the summed variance over styles, with each statistic divided by its standard deviation over the
    styles themselves.
    """
    expected, actual = np.stack(styles), np.stack(outputs)
    scale = np.where(expected.std(axis=0) > 0, expected.std(axis=0), np.inf)
    return float(np.sqrt((actual / scale).var(axis=0).sum() / (expected / scale).var(axis=0).sum()))


def seams(matches: NDArray[np.int64], style_columns: int) -> NDArray[np.bool_]:
    """Return where neighboring content patches were given style patches that are not neighbors.

    ``matches`` (h, w) are patch numbers, row by row, of a style with ``style_columns`` patches per row -> (h,
    w-1) bool, True between a patch and its right neighbor.
    """
    right = matches[:, 1:] - matches[:, :-1]
    same_row = matches[:, 1:] // style_columns == matches[:, :-1] // style_columns
    return np.asarray(~((right == 1) & same_row))


def seam_contrast(image: Image, seam: NDArray[np.bool_]) -> float:
    """Return the mean horizontal lightness step at seams over the mean step elsewhere; 1 for invisible seams.

    ``seam`` (h, w-1) bool is enlarged to the picture.
    """
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    step = np.abs(np.diff(light, axis=1))
    size = (step.shape[1], step.shape[0])
    where = cv2.resize(seam.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    if where.all() or not where.any():
        return 1.0
    return float(step[where].mean() / max(step[~where].mean(), 1e-6))
