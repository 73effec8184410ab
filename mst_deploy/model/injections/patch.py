"""Local matching: the content's features, rebuilt from the style's patches, are given to the trunk.

"Style swap", Chen & Schmidt 2016 (arXiv 1612.04337). Features are VGG-19's relu3_1: they have the trunk's
resolution, a quarter of the picture's.
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
"""Largest number of similarities in memory at once: 32 MiB of float32, whatever the size of the pictures."""


class Patch(PlainNorms):
    """Injection whose condition is (content features, style features), each (N, 256, h, w); sizes may
    differ."""

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
        injected = self.maps[block](condition.to(x.dtype))
        if injected.shape[2:] != x.shape[2:]:  # stride-2 convolutions round odd sizes up, poolings down
            injected = F.interpolate(injected, x.shape[2:], mode="nearest")
        return F.relu(x + injected)


@torch.no_grad()
def match(content: Tensor, style: Tensor) -> Tensor:
    """Return the index of the most similar style patch by cosine: (C, h, w), (C, H, W) -> (h-2, w-2) int64.

    Patches are 3x3 and numbered row by row. Besides the style's patches, at most SIMILARITIES values, or
    those of one row of content patches, are in memory at once.
    """
    style_patches = patches(style)  # (C*9, m)
    # the length of a content patch does not affect the maximum
    style_patches /= style_patches.norm(dim=0).clamp_min(1e-12)
    height, width = content.shape[1] - PATCH + 1, content.shape[2] - PATCH + 1
    rows = max(1, SIMILARITIES // (style_patches.shape[1] * width))
    best = []
    for top in range(0, height, rows):
        content_patches = patches(
            content[:, top : top + min(rows, height - top) + PATCH - 1]
        )  # (C*9, rows*width)
        best.append((content_patches.T @ style_patches).argmax(dim=1))
    return torch.cat(best).reshape(height, width)


def swap(content: Tensor, style: Tensor) -> Tensor:
    """Replace each content patch by its match in the style, averaging overlaps: (C, h, w) float32."""
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
    """Extract patches: (C, h, w) -> (C*9, (h-2)*(w-2)) float32."""
    return F.unfold(features.float()[None], PATCH)[0]
