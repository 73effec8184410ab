"""Seams along edges and clouds in flat areas, as one number: for training and tuning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HALO_CELLS = (8, 16)  # pixels: strokes are finer, halos and blobs are not
HALO_RANGE = 0.06  # of pixels in 0..1: a cell pair that spans this much is flat to a third


def halo_loss(images: Tensor, contents: Tensor) -> Tensor:
    """Mean squared unevenness of what is flat in the picture: (N, 3, H, W) twice, in 0..1 -> (N,).

    A light seam along the edge of a dark sky, and clouds in a blue one, are slow changes that the content
    has not got. Both pictures are averaged over square cells, which hides strokes; neighbouring cells should
    be alike where the content's pixels hardly differ over both. 0 for pictures smaller than two cells.
    """
    losses = []
    for cell in (cell for cell in HALO_CELLS if cell <= min(images.shape[2:])):
        means = F.avg_pool2d(images.float(), cell)
        highest = F.max_pool2d(contents.float(), cell)
        lowest = -F.max_pool2d(-contents.float(), cell)
        for axis in (2, 3):
            count = means.shape[axis] - 1
            if count < 1:
                continue
            one, two = (
                [part.narrow(axis, start, count) for part in (means, highest, lowest)] for start in (0, 1)
            )
            span = (torch.maximum(one[1], two[1]) - torch.minimum(one[2], two[2])).amax(dim=1, keepdim=True)
            flat = torch.exp(-(span / HALO_RANGE).square())
            losses.append((flat * (one[0] - two[0]).square()).mean(dim=(1, 2, 3)))
    return torch.stack(losses).mean(dim=0) if losses else images.new_zeros(len(images))
