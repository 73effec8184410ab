"""Local matching: the content's features rebuilt from the style's patches (Chen & Schmidt 2016, arXiv
1612.04337, "style swap"), given to the trunk.

Features are VGG-19's relu3_1: they have the trunk's resolution, a quarter of the picture's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.injections.base import Places, PlainNorms, small_conv1x1

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


def match(content: Tensor, style: Tensor) -> Tensor:
    """Index of the style patch most like each content patch, by cosine: (C, h, w), (C, H, W) -> (h-2, w-2).

    Patches are 3x3 and numbered row by row. Memory does not grow with the product of both sizes.
    """
    wanted = patches(content)  # (C*9, n)
    offered = F.normalize(patches(style), dim=0)  # (C*9, m); the content's length does not move the maximum
    chunk = max(1, SIMILARITIES // offered.shape[1])
    best = [(part.T @ offered).argmax(dim=1) for part in torch.split(wanted, chunk, dim=1)]
    return torch.cat(best).reshape(content.shape[1] - PATCH + 1, content.shape[2] - PATCH + 1)


def swap(content: Tensor, style: Tensor) -> Tensor:
    """Each content patch replaced by its match in the style, overlaps averaged: (C, h, w) float32."""
    content, style = content.float(), style.float()
    index = match(content, style)
    size = (content.shape[1], content.shape[2])
    chosen = patches(style)[:, index.flatten()]  # (C*9, n)
    total = F.fold(chosen[None], size, PATCH)[0]
    count = F.fold(torch.ones_like(chosen[None, : PATCH * PATCH]), size, PATCH)[0]  # (1, h, w)
    return total / count


def patches(features: Tensor) -> Tensor:
    """(C, h, w) -> (C*9, (h-2)*(w-2)), float32."""
    return F.unfold(features.float()[None], PATCH)[0]
