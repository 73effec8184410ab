"""Local matching: the content's features rebuilt from the style's patches (Chen & Schmidt 2016, arXiv
1612.04337, "style swap"), given to the trunk.

Features are VGG-19's relu3_1: they have the trunk's resolution, a quarter of the picture's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.model.injections.base import Places, PlainNorms, small_conv1x1

FEATURES = "relu3_1"
FEATURE_CHANNELS = 256
PATCH = 3
SIMILARITIES = 1 << 23
"""Most similarities held at once: 32 MiB of float32, whatever the size of the pictures."""


class Patch(PlainNorms):
    """The condition is (content features, style features), each (N, 256, h, w); sizes may differ."""

    NEEDS: ClassVar[Literal["features"]] = "features"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.maps = nn.ModuleList(small_conv1x1(FEATURE_CHANNELS, places.width) for _ in range(places.blocks))

    def prepare(self, condition: Any) -> Any:
        content, style = condition
        swapped = [swap(c, s) for c, s in zip(content, style, strict=True)]
        return torch.stack(swapped)

    def enter(self, x: Tensor, block: int, conv: int, condition: Any) -> Tensor:
        if conv:
            return F.relu(x)
        given = self.maps[block](condition.to(x.dtype))
        if given.shape[2:] != x.shape[2:]:  # stride-2 convolutions round odd sizes up, poolings down
            given = F.interpolate(given, x.shape[2:], mode="nearest")
        return F.relu(x + given)


@torch.no_grad()
def match(content: Tensor, style: Tensor) -> Tensor:
    """Index of the style patch most like each content patch, by cosine: (C, h, w), (C, H, W) -> (h-2, w-2).

    Patches are 3x3 and numbered row by row. Beside the style's patches, no more is held at once than
    SIMILARITIES numbers, or those of one row of content patches.
    """
    offered = patches(style)  # (C*9, m)
    offered /= offered.norm(dim=0).clamp_min(1e-12)  # a content patch's length does not move the maximum
    height, width = content.shape[1] - PATCH + 1, content.shape[2] - PATCH + 1
    rows = max(1, SIMILARITIES // (offered.shape[1] * width))
    best = []
    for top in range(0, height, rows):
        wanted = patches(content[:, top : top + min(rows, height - top) + PATCH - 1])  # (C*9, rows*width)
        best.append((wanted.T @ offered).argmax(dim=1))
    return torch.cat(best).reshape(height, width)


def swap(content: Tensor, style: Tensor) -> Tensor:
    """Each content patch replaced by its match in the style, overlaps averaged: (C, h, w) float32."""
    content, style = content.float(), style.float()
    index = match(content, style)
    per_row = style.shape[2] - PATCH + 1
    row, column = index // per_row, index % per_row
    total = torch.zeros_like(content)
    count = torch.zeros_like(content[:1])
    for down in range(PATCH):
        for right in range(PATCH):
            place = (slice(None), slice(down, down + len(index)), slice(right, right + index.shape[1]))
            total[place] += style[:, row + down, column + right]
            count[place] += 1
    return total / count


def patches(features: Tensor) -> Tensor:
    """(C, h, w) -> (C*9, (h-2)*(w-2)), float32."""
    return F.unfold(features.float()[None], PATCH)[0]
